"""The two processes of the growth benchmark: one that writes, one that opens and asks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from agenthub.core.ids import new_id
from agenthub.rag.configuration import MilvusSettings, RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.filters import parse_filter
from agenthub.rag.manifest import Manifest
from agenthub.rag.milvus.segments import MilvusSegments
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import Mode, Searcher, SearchRequest
from agenthub.rag.segment import Chunk
from agenthub.rag.volume import Volume
from benchmarks.peers.workload import WANTED_CATEGORY, Workload, item_number, make_workload, recall

_ROWS: Final = 100_000
_SIGNATURE: Final = "client;dimension=384;metric=cosine;normalized"
_SECONDS: Final = 300.0
"""Patience with Milvus Lite, which builds its indexes while it is asked."""
_TENTH: Final = {"field": "category", "op": "eq", "value": WANTED_CATEGORY}
_NARROW: Final = {"and": [_TENTH, {"field": "year", "op": "eq", "value": 2007}]}


def build(folder: Path, url: str | None, count: int) -> dict[str, float]:
    """Write `count` chunks, and what the other process needs to know: how quick that was, and what it takes on disk."""
    workload, engine, kb_id = make_workload(count), _engine(folder, url), new_id()
    pointer = engine.put_manifest(kb_id, Manifest.empty(kb_id, _SIGNATURE, "create", datetime.now(UTC)))
    seconds = 0.0
    for start in range(0, count, _ROWS):
        pointer, took = _append(engine, kb_id, workload, range(start, min(start + _ROWS, count)), pointer)
        seconds += took
    texts = [workload.item(7 * number % count).text[:40] for number in range(len(workload.queries))]
    (folder / "asked.json").write_text(json.dumps({"kb_id": kb_id, "pointer": asdict(pointer), "texts": texts}))
    np.savez(folder / "asked.npz", queries=workload.queries, nearest=workload.nearest, filtered=workload.nearest_filtered)
    engine.close()
    on_volume, whole = _size(folder / "volume"), _size(folder / "volume") + _size(folder / "vectors.db")
    return {
        "written_per_second": count / seconds,
        "disk_bytes_per_chunk": whole / count,
        "volume_bytes_per_chunk": on_volume / count,
    }


def ask(folder: Path, url: str | None, count: int) -> dict[str, float]:
    """Open what was written and ask it: times, memory and how many of the true answers came."""
    said, kept = json.loads((folder / "asked.json").read_text()), np.load(folder / "asked.npz")
    before, started = _memory(), time.perf_counter()
    engine = _engine(folder, url)
    searcher = engine.searcher(said["kb_id"], Pointer(**said["pointer"]), [])
    searcher.search([SearchRequest(None, kept["queries"][0], "semantic", 10)])
    opened = time.perf_counter() - started
    figures: dict[str, float] = {"open_seconds": opened}
    answers: dict[str, list[list[int]]] = {}
    plans: tuple[tuple[str, Mode, Any], ...] = (
        ("semantic", "semantic", None),
        ("filtered", "semantic", _TENTH),
        ("narrow", "semantic", _NARROW),
        ("keyword", "keyword", None),
        ("hybrid", "hybrid", None),
    )
    for name, mode, tree in plans:
        figures[f"{name}_ms"], answers[name] = _asked(searcher, said["texts"], kept["queries"], mode, tree)
    after = _memory()
    figures["anonymous_bytes_per_chunk"] = (after["Anonymous"] - before["Anonymous"]) / count
    figures["mapped_bytes_per_chunk"] = (after["Rss"] - after["Anonymous"] - before["Rss"] + before["Anonymous"]) / count
    figures["recall"] = recall(answers["semantic"], kept["nearest"])
    figures["recall_filtered"] = recall(answers["filtered"], kept["filtered"])
    engine.close()
    return figures


def _asked(searcher: Searcher, texts: Sequence[str], queries: Any, mode: Mode, tree: Any) -> tuple[float, list[list[int]]]:
    """The median milliseconds of single questions, the first round of which doesn't count, and the answers."""
    chosen = None if tree is None else parse_filter(tree)
    requests = [SearchRequest(text, query, mode, 10, chosen) for text, query in zip(texts, queries, strict=True)]
    times: list[float] = []
    found: list[list[int]] = []
    for counted in (False, True):
        for request in requests if counted else requests[:20]:
            started = time.perf_counter()
            hits = searcher.search([request])[0]
            if counted:
                times.append(time.perf_counter() - started)
                found.append([item_number(hit.id) for hit in hits])
    return median(times) * 1e3, found


def _engine(folder: Path, url: str | None) -> KnowledgeEngine:
    settings = RagSettings(segment_cache_bytes=2**40)
    volume = Volume(folder / "volume")
    if url is None:
        return KnowledgeEngine(volume, settings)
    milvus = MilvusSettings(url, os.environ.get("VECTOR_STORE_TOKEN"), _SECONDS)
    return KnowledgeEngine(volume, settings, segments=MilvusSegments(volume, settings, milvus))


def _append(engine: KnowledgeEngine, kb_id: str, workload: Workload, numbers: range, pointer: Pointer) -> tuple[Pointer, float]:
    """Write and publish one segment: what is current then, and the seconds that took."""
    items = [workload.item(number) for number in numbers]
    chunks = [Chunk(item.id, None, item.text, item.metadata) for item in items]
    started = time.perf_counter()
    entry = engine.write_segment(kb_id, chunks, workload.vectors[numbers.start : numbers.stop], signature=_SIGNATURE, language="english")
    manifest = engine.read_manifest(kb_id, pointer)
    made = manifest.successor(generation=manifest.generation + 1, added=[entry], operation_id=new_id(), now=datetime.now(UTC))
    return engine.put_manifest(kb_id, made), time.perf_counter() - started


def _memory() -> dict[str, int]:
    """Bytes of this process, from the kernel: resident, and of these its own."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
