"""How quick and how exact the knowledge engine is in process, without HTTP: what docs/adr/0013 quotes.

    python -m benchmarks.engine --count 100000 --rows 100000
    python -m benchmarks.engine --count 100000 --rows 4000

Items are written as segments of `--rows` and asked one by one and in a batch. Times are processor time of this process, which other
programs disturb less than the clock's; a batch may use two threads, whose times add up. Run it with OPENBLAS_NUM_THREADS=1, as workers do.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from agenthub.core.ids import new_id
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.filters import parse_filter
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import Hit, Mode, Searcher, SearchRequest
from agenthub.rag.segment import FILES, Chunk
from agenthub.rag.volume import Volume
from benchmarks.peers.workload import WANTED_CATEGORY, Workload, item_number, make_workload, recall

_ROUNDS = 3
_SIGNATURE = "client;dimension=384;metric=cosine;normalized"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="items")
    parser.add_argument("--rows", type=int, default=100_000, help="items in a segment")
    chosen = parser.parse_args(arguments)
    workload = make_workload(chosen.count)
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), workload, chosen.rows)
    return 0


def _run(folder: Path, workload: Workload, rows: int) -> None:
    engine, kb_id = KnowledgeEngine(Volume(folder), RagSettings()), new_id()
    pointer = engine.put_manifest(kb_id, Manifest.empty(kb_id, _SIGNATURE, "create", datetime.now(UTC)))
    seconds = 0.0
    for start in range(0, len(workload), rows):
        pointer, took = _append(engine, kb_id, workload, range(start, min(start + rows, len(workload))), pointer)
        seconds += took
    print(f"{len(workload)} items in segments of {rows}")
    print(f"written in           {seconds:8.2f} s, {len(workload) / seconds:,.0f} items/s")
    for name in FILES:
        print(f"{name:20} {sum(path.stat().st_size for path in folder.rglob(name)) / 1e6:8.1f} MB")
    started = time.process_time()
    searcher = KnowledgeEngine(Volume(folder), RagSettings()).searcher(kb_id, pointer, [])
    print(f"opened in            {time.process_time() - started:8.2f} s")
    _questions(searcher, workload)
    print(f"most memory          {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MB, the workload's vectors included")


def _append(engine: KnowledgeEngine, kb_id: str, workload: Workload, numbers: range, pointer: Pointer) -> tuple[Pointer, float]:
    """Write and publish one segment: what is current then, and the processor seconds that took."""
    items = [workload.item(number) for number in numbers]
    chunks = [Chunk(item.id, None, item.text, item.metadata) for item in items]
    started = time.process_time()
    vectors = workload.vectors[numbers.start : numbers.stop]
    entry = engine.write_segment(kb_id, chunks, vectors, signature=_SIGNATURE, language="english")
    manifest = engine.read_manifest(kb_id, pointer)
    made = manifest.successor(generation=manifest.generation + 1, added=[entry], operation_id=new_id(), now=datetime.now(UTC))
    return engine.put_manifest(kb_id, made), time.process_time() - started


def _questions(searcher: Searcher, workload: Workload) -> None:
    tenth = {"field": "category", "op": "eq", "value": WANTED_CATEGORY}
    for label, tree, nearest in (("semantic", None, workload.nearest), ("semantic, 10 %", tenth, workload.nearest_filtered)):
        requests = _requests(workload, "semantic", tree)
        answers = searcher.search(requests)
        shown = recall([[item_number(hit.id) for hit in hits] for hits in answers], nearest)
        _print_times(label, searcher, requests, f"recall@10 {shown:.4f}")
    modes: tuple[Mode, ...] = ("keyword", "hybrid")
    for mode in modes:
        _print_times(mode, searcher, _requests(workload, mode, None), "")


def _requests(workload: Workload, mode: Mode, tree: object) -> list[SearchRequest]:
    chosen = None if tree is None else parse_filter(tree)
    texts = [workload.item(7 * number % len(workload)).text[:40] for number in range(len(workload.queries))]
    return [SearchRequest(text, query, mode, 10, chosen) for text, query in zip(texts, workload.queries, strict=True)]


def _print_times(label: str, searcher: Searcher, requests: Sequence[SearchRequest], more: str) -> None:
    single = _least(lambda: [searcher.search([request])[0] for request in requests]) / len(requests)
    batch = _least(lambda: searcher.search(requests))
    print(f"{label:20} {single * 1e6:8.0f} µs a query, {batch * 1e3:8.1f} ms a batch of {len(requests)}  {more}")


def _least(work: Callable[[], list[list[Hit]]]) -> float:
    seconds = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
