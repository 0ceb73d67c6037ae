"""A full check of files: from a pointer to its manifest, to every segment's header, to every byte of every file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import AgentHubError, CorruptFile
from agenthub.rag.chunks import ChunkLines
from agenthub.rag.columns import Columns
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.rag.segment import CHUNKS, FILTERS, HEADER, INDEX, KEYWORDS, VECTORS, SegmentEntry, SegmentHeader, read_header
from agenthub.rag.vector_index import check_index
from agenthub.rag.vectors import decode_vectors
from agenthub.rag.volume import Volume

__all__ = ["DERIVED", "Damage", "DamageKind", "check_manifest", "check_segment", "verify_snapshot"]

DamageKind = Literal["truth", "derived"]
"""`truth` can only come from another copy; `derived` is made again from the truth."""
DERIVED: Final = frozenset({INDEX, KEYWORDS, FILTERS})
_UNIT_TOLERANCE: Final = 1e-3
T = TypeVar("T")
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of a generation that is not what was written. `segment_id` is None for the manifest."""

    kind: DamageKind
    segment_id: str | None
    file: str
    message: str

    def __str__(self) -> str:
        return f"segment {self.segment_id}: {self.file}: {self.message}" if self.segment_id else f"{self.file}: {self.message}"


def verify_snapshot(volume: Volume, kb_id: str, pointer: Pointer) -> list[str]:
    """What is wrong with the pointer's manifest, its segments and all their files; empty when nothing is."""
    manifest, found = check_manifest(volume, kb_id, pointer)
    if manifest is not None:
        found = [*found, *(one for entry in manifest.segments for one in check_segment(volume, kb_id, manifest, entry))]
    return [str(one) for one in found]


def check_manifest(volume: Volume, kb_id: str, pointer: Pointer) -> tuple[Manifest | None, list[Damage]]:
    """The pointer's manifest, read anew (None when it can't be), and what is wrong with it."""
    try:
        manifest = Manifest.decode(volume.read(kb_id, pointer.file), kb_id, pointer)
    except AgentHubError as error:
        return None, [Damage("truth", None, f"manifest {pointer.name}", error.message)]
    ids = [entry.id for entry in manifest.segments]
    problems = ["it lists a segment twice"] if len(set(ids)) != len(ids) else []
    problems += [f"{entry.id} covers a generation that does not exist yet" for entry in _ahead(manifest)]
    return manifest, [Damage("truth", None, f"manifest {pointer.name}", text) for text in problems]


def _ahead(manifest: Manifest) -> Sequence[SegmentEntry]:
    return [entry for entry in manifest.segments if entry.covers_generation > manifest.generation]


def check_segment(volume: Volume, kb_id: str, manifest: Manifest, entry: SegmentEntry) -> list[Damage]:
    """What is wrong with a segment's files, read anew and in full; empty when nothing is."""
    try:
        header = read_header(volume, kb_id, entry)
    except AgentHubError as error:
        return [Damage("truth", entry.id, HEADER, error.message)]
    found = _Check(volume, kb_id, header).run()
    if header.signature != manifest.signature:
        text = f"it was made with the model {header.signature}, the manifest says {manifest.signature}"
        found.append(Damage("truth", entry.id, HEADER, text))
    return found


class _Check:
    """The checks of one segment's files."""

    def __init__(self, volume: Volume, kb_id: str, header: SegmentHeader) -> None:
        self._volume = volume
        self._kb_id = kb_id
        self._header = header
        self._found: list[Damage] = []

    def run(self) -> list[Damage]:
        """All that is wrong. The derived files are compared with the truth where that is whole."""
        vectors = self._noted(VECTORS, self._vectors)
        lines = self._noted(CHUNKS, self._lines)
        self._noted(INDEX, lambda: self._index(vectors))
        self._noted(FILTERS, lambda: self._filters(lines))
        self._noted(KEYWORDS, self._keywords)
        return self._found

    def _noted(self, file: str, check: Callable[[], T]) -> T | None:
        """What the check gives; None where it finds damage, which is noted."""
        try:
            return check()
        except AgentHubError as error:
            kind: DamageKind = "derived" if file in DERIVED else "truth"
            self._found.append(Damage(kind, self._header.id, file, error.message))
            return None

    def _vectors(self) -> Rows:
        vectors = decode_vectors(self._load(VECTORS), self._header.chunk_count, self._header.dimension)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):
            raise CorruptFile("it has rows that are not of length 1")
        return vectors

    def _lines(self) -> ChunkLines:
        lines = ChunkLines(self._load(CHUNKS), self._header.chunk_count)
        if len({chunk.id for chunk in lines.chunks()}) != self._header.chunk_count:
            raise CorruptFile("it has a chunk twice")
        return lines

    def _index(self, vectors: Rows | None) -> None:
        header = self._header
        check_index(self._load(INDEX), header.index, header.measured, (header.chunk_count, header.dimension), vectors)

    def _filters(self, lines: ChunkLines | None) -> None:
        stored = Columns.decode(self._load(FILTERS), self._header.chunk_count)
        if lines is not None and Columns.of(lines.chunks()).encode() != stored.encode():
            raise CorruptFile("it does not say what chunks.jsonl says")

    def _keywords(self) -> None:
        KeywordIndex.decode(self._load(KEYWORDS), self._header.chunk_count)

    def _load(self, name: str) -> NDArray[np.uint8]:
        return self._volume.load(self._kb_id, self._header.files[name])
