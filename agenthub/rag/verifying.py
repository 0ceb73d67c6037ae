"""A full check of files: from a pointer to its manifest, to every segment's header, to every byte of every file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import AgentHubError, CorruptFile, VolumeUnavailable
from agenthub.rag.chunks import Chunk, ChunkLines
from agenthub.rag.columns import Columns
from agenthub.rag.contract import Damage, DamageKind
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.rag.segment import CHUNKS, FILTERS, HEADER, INDEX, KEYWORDS, VECTORS, SegmentEntry, SegmentHeader, read_header
from agenthub.rag.vector_index import check_index
from agenthub.rag.vectors import Vectors, decode_vectors
from agenthub.rag.volume import Volume

__all__ = ["Damage", "DamageKind", "HeaderCheck", "check_files", "check_lengths", "check_manifest", "header_of"]

_UNIT_TOLERANCE: Final = 1e-3
T = TypeVar("T")


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


def header_of(volume: Volume, kb_id: str, entry: SegmentEntry, signature: str) -> tuple[SegmentHeader | None, list[Damage]]:
    """A segment's header (None when it can't be read), and what is wrong with it."""
    try:
        header = read_header(volume, kb_id, entry)
    except VolumeUnavailable as error:
        return None, [Damage("truth", entry.id, HEADER, error.message)]
    if header.signature != signature:
        return header, [Damage("truth", entry.id, HEADER, f"it was made with the model {header.signature}, the manifest says {signature}")]
    return header, []


def check_files(volume: Volume, kb_id: str, entry: SegmentEntry, signature: str) -> list[Damage]:
    """What is wrong with the files of a segment that is on the volume, read anew and in full; empty when nothing is.

    Raises: WrongVectorEngine when its chunks and vectors are not on the volume.
    """
    header, found = header_of(volume, kb_id, entry, signature)
    return found if header is None else [*_FilesCheck(volume, kb_id, header.of_volume()).run(), *found]


class HeaderCheck:
    """The checks of one segment that need its header; what else is looked at is said by the kind of segment."""

    def __init__(self, volume: Volume, kb_id: str, header: SegmentHeader) -> None:
        self.volume = volume
        self.kb_id = kb_id
        self.header = header
        self.found: list[Damage] = []

    def noted(self, kind: DamageKind, file: str, check: Callable[[], T]) -> T | None:
        """What the check gives; None where it finds damage, which is noted."""
        try:
            return check()
        except VolumeUnavailable as error:
            self.found.append(Damage(kind, self.header.id, file, error.message))
            return None

    def derived(self, chunks: Sequence[Chunk] | None) -> None:
        """Look at the filter and keyword files; the filters are compared with the chunks where those are whole."""
        self.noted("derived", FILTERS, lambda: self._filters(chunks))
        self.noted("derived", KEYWORDS, lambda: KeywordIndex.decode(self.load(KEYWORDS), self.header.chunk_count))

    def load(self, name: str) -> NDArray[np.uint8]:
        """A file's bytes, verified."""
        return self.volume.load(self.kb_id, self.header.files[name])

    def _filters(self, chunks: Sequence[Chunk] | None) -> None:
        stored = Columns.decode(self.load(FILTERS), self.header.chunk_count)
        if chunks is not None and Columns.of(chunks).encode() != stored.encode():
            raise CorruptFile("it does not say what the chunks say")


class _FilesCheck(HeaderCheck):
    """A segment all of which is on the volume."""

    def run(self) -> list[Damage]:
        """All that is wrong. The derived files are compared with the truth where that is whole."""
        vectors = self.noted("truth", VECTORS, self._vectors)
        lines = self.noted("truth", CHUNKS, self._lines)
        self.noted("derived", INDEX, lambda: self._index(vectors))
        self.derived(None if lines is None else list(lines.chunks()))
        return self.found

    def _vectors(self) -> Vectors:
        vectors = decode_vectors(self.load(VECTORS), self.header.chunk_count, self.header.dimension)
        check_lengths(vectors)
        return vectors

    def _lines(self) -> ChunkLines:
        lines = ChunkLines(self.load(CHUNKS), self.header.chunk_count)
        if len({chunk.id for chunk in lines.chunks()}) != self.header.chunk_count:
            raise CorruptFile("it has a chunk twice")
        return lines

    def _index(self, vectors: Vectors | None) -> None:
        header = self.header
        check_index(self.load(INDEX), header.index, header.measured, (header.chunk_count, header.dimension), vectors)


def check_lengths(vectors: Vectors) -> None:
    """Return if all have length 1. Raises: CorruptFile."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):
        raise CorruptFile("it has rows that are not of length 1")
