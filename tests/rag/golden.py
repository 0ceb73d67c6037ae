"""Makes the golden directory of the present format: `python -m tests.rag.golden FOLDER`. Run once per format; never again after."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.filters import parse_filter
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import Chunk
from agenthub.rag.tombstones import Tombstone
from agenthub.rag.volume import Volume
from tests.rag.samples import NOW

KB = "01jdc0zf000000000000000001"
SIGNATURE = "client;dimension=4;metric=cosine;normalized"
FIRST = [
    Chunk("01a", "doc1", "The lighthouse keeper lit the lamp at dusk.", {"lang": "en", "page": 1, "tags": ["sea", "light"]}),
    Chunk("01b", "doc1", "Ships passed the reef in safety.", {"lang": "en", "page": 2, "seen": "2024-02-29T12:00:00Z"}),
    Chunk("01c", "doc2", "Ein Leuchtturm steht an der Küste.", {"lang": "de", "draft": True, "rating": 4.5}),
]
SECOND = [
    Chunk("02a", None, "灯台の光 shines over the harbour.", {"author": {"name": "Mori"}, "page": 2**40}),
    Chunk("01b", "doc1", "Ships passed the reef; the lighthouse warned them.", {"lang": "en", "page": 3}),
]
MANY = [Chunk(f"03{n:04}", f"log{n // 50}", f"Entry {n}: buoy {n % 7} seen.", {"page": n}) for n in range(2100)]
VECTORS = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 3, 4], [0.5, 0.5, 0.5, 0.5], [0.8, 0, 0.6, 0]], dtype=np.float32)
QUERIES: tuple[dict[str, Any], ...] = (
    {"mode": "semantic", "filter": None},
    {"mode": "keyword", "filter": None},
    {"mode": "hybrid", "filter": {"field": "lang", "op": "exists"}},
    {
        "mode": "semantic",
        "filter": {"or": [{"field": "author.name", "op": "eq", "value": "Mori"}, {"field": "rating", "op": "gt", "value": 4}]},
    },
)


def requests() -> list[SearchRequest]:
    """The questions whose answers are kept beside the directory."""
    vector = np.array([1, 0.5, 0.25, 0], dtype=np.float32)
    return [
        SearchRequest("lighthouse ships", vector, query["mode"], 10, parse_filter(query["filter"]) if query["filter"] else None)
        for query in QUERIES
    ]


def answers(engine: KnowledgeEngine, pointer: Pointer, tombstones: list[Tombstone]) -> list[list[list[Any]]]:
    """Ids and scores."""
    found = engine.searcher(KB, pointer, tombstones).search(requests())
    return [[[hit.id, hit.score] for hit in hits] for hits in found]


def main(folder: Path) -> None:
    """Write the volume, and what the repository would hold, to an empty folder. Format 1 lacks the large segment."""
    engine = KnowledgeEngine(Volume(folder / "volume"), RagSettings())
    pointer = engine.put_manifest(KB, Manifest.empty(KB, SIGNATURE, "operation1", NOW))
    many = np.random.default_rng(2).normal(size=(len(MANY), 4)).astype(np.float32)
    for chunks, rows in ((FIRST, VECTORS[:3]), (SECOND, VECTORS[3:]), (MANY, many)):
        entry = engine.write_segment(KB, chunks, rows, signature=SIGNATURE, language="english")
        manifest = engine.read_manifest(KB, pointer).successor(added=[entry], operation_id=f"operation{len(chunks)}", now=NOW)
        pointer = engine.put_manifest(KB, manifest)
    original = engine.put_original(KB, b"The lighthouse keeper lit the lamp at dusk.\n")
    tombstones = [Tombstone("chunk", "01b", 3)]
    row: dict[str, Any] = {"pointer": asdict(pointer), "original": asdict(original), "tombstones": [asdict(one) for one in tombstones]}
    row["answers"] = answers(engine, pointer, tombstones)
    (folder / "row.json").write_bytes(orjson.dumps(row, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
