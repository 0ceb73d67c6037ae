"""A small knowledge base to test with, and answers computed the plain way."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.ids import new_id
from agenthub.rag.analysis import Analyzer
from agenthub.rag.configuration import MilvusSettings, RagSettings
from agenthub.rag.engine import KnowledgeEngine, Tombstone
from agenthub.rag.manifest import Manifest
from agenthub.rag.milvus.segments import MilvusSegments
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import Searcher
from agenthub.rag.segment import Chunk
from agenthub.rag.volume import Volume

NOWHERE: Final = Pointer(0, 0, "", "", 0)
NOW: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SIGNATURE: Final = "test;dimension=8;metric=cosine"
DIMENSION: Final = 8
ENGLISH: Final = Analyzer("english")
WORDS: Final = [
    "river",
    "mountain",
    "forest",
    "lantern",
    "harbour",
    "copper",
    "velvet",
    "thunder",
    "meadow",
    "orchid",
    "granite",
    "whisper",
]


class Counting:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, ...]] = Counter()
        self.timed: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        self.counted[(name, *labels.values())] += int(amount)

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        assert name == "vector_search"
        assert seconds >= 0
        self.timed[labels["phase"]] += 1


def vectors(count: int, seed: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Random vectors, the same for the same seed."""
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def chunks(count: int, prefix: str = "c", seed: int = 0) -> list[Chunk]:
    """Chunks in documents of three, with texts of a few words and metadata of every kind."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        text = " ".join(random.choice(WORDS, size=int(random.integers(2, 9))))
        metadata: dict[str, Any] = {"n": number, "even": number % 2 == 0, "lang": ["en", "de"][number % 2], "tags": [text.split()[0]]}
        made.append(Chunk(f"{prefix}{number}", f"{prefix}-doc{number // 3}", text, metadata))
    return made


@dataclass
class Base:
    """A knowledge base as its repository would keep it: the pointer, the tombstones, and a plain model of what is visible."""

    engine: KnowledgeEngine
    id: str = field(default_factory=new_id)
    pointer: Pointer = NOWHERE
    tombstones: list[Tombstone] = field(default_factory=list)
    visible: dict[str, tuple[Chunk, NDArray[np.float32]]] = field(default_factory=dict)
    signature: str = SIGNATURE

    def create(self) -> Base:
        self.pointer = self.engine.put_manifest(self.id, Manifest.empty(self.id, self.signature, "create", NOW))
        return self

    def append(self, added: Sequence[Chunk], rows: NDArray[np.float32], language: str = "english") -> Pointer:
        """Write a segment and commit it."""
        entry = self.engine.write_segment(self.id, added, rows, signature=self.signature, language=language)
        manifest = self.engine.read_manifest(self.id, self.pointer)
        self.pointer = self.engine.put_manifest(self.id, manifest.successor(added=[entry], operation_id="append", now=NOW))
        self.visible.update({chunk.id: (chunk, row) for chunk, row in zip(added, rows, strict=True)})
        return self.pointer

    def replace(self, added: Sequence[Chunk], rows: NDArray[np.float32]) -> None:
        """Hide the chunks with these ids and add their new versions, all in one commit."""
        generation = self.pointer.generation + 1
        self.tombstones += [Tombstone("chunk", chunk.id, generation) for chunk in added]
        self.append(added, rows)
        assert self.pointer.generation == generation

    def delete(self, *, document: str | None = None, chunk: str | None = None) -> None:
        """Commit a tombstone; the manifest stays."""
        self.pointer = replace(self.pointer, generation=self.pointer.generation + 1)
        if document is not None:
            self.tombstones.append(Tombstone("document", document, self.pointer.generation))
            self.visible = {key: pair for key, pair in self.visible.items() if pair[0].document_id != document}
        if chunk is not None:
            self.tombstones.append(Tombstone("chunk", chunk, self.pointer.generation))
            self.visible.pop(chunk, None)

    def searcher(self, engine: KnowledgeEngine | None = None) -> Searcher:
        return (engine or self.engine).searcher(self.id, self.pointer, list(self.tombstones))


MakeEngine = Callable[..., KnowledgeEngine]
"""`new_engine` or `milvus_engine`: what is promised of one is promised of both."""


def new_engine(root: Path, settings: RagSettings | None = None, **options: Any) -> KnowledgeEngine:
    """An engine as a fresh process would make it."""
    observer = options.pop("observer", None)
    return KnowledgeEngine(Volume(root, **options), settings or RagSettings(), observer)


def milvus_engine(root: Path, settings: RagSettings | None = None, **options: Any) -> KnowledgeEngine:
    """As `new_engine`, with chunks and vectors in the Milvus Lite of this test process; volumes differ, the file is one."""
    observer = options.pop("observer", None)
    volume, chosen = Volume(root, **options), settings or RagSettings()
    return KnowledgeEngine(volume, chosen, observer, MilvusSegments(volume, chosen, MilvusSettings(milvus_file())))


@cache
def milvus_file() -> str:
    """The file of this process's Milvus Lite: opening one takes a while, and knowledge bases in it don't touch."""
    folder = tempfile.mkdtemp(prefix="agenthub-milvus-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return f"{folder}/vectors.db"


def cosines(rows: Iterable[NDArray[np.float32]], query: NDArray[np.float32]) -> list[float]:
    """Cosines in double precision."""
    wide = query.astype(np.float64)
    return [float(row.astype(np.float64) @ wide / np.linalg.norm(row.astype(np.float64)) / np.linalg.norm(wide)) for row in rows]


def bm25(texts: Sequence[str], query: str, k1: float = 1.2, b: float = 0.75) -> list[float]:
    """BM25 by its definition, one posting at a time."""
    counted = [Counter(ENGLISH.terms(text)) for text in texts]
    lengths = [sum(terms.values()) for terms in counted]
    mean = sum(lengths) / max(len(lengths), 1)
    scores = [0.0] * len(texts)
    for term in ENGLISH.query_terms(query):
        frequency = sum(term in terms for terms in counted)
        weight = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
        for row, terms in enumerate(counted):
            if term in terms:
                scores[row] += weight * terms[term] * (k1 + 1) / (terms[term] + k1 * (1 - b + b * lengths[row] / mean))
    return scores
