"""A full check of one generation's files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agenthub.core.errors import AgentHubError, CorruptFile
from agenthub.rag.chunks import ChunkLines
from agenthub.rag.columns import Columns
from agenthub.rag.faiss_codec import open_index
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.rag.segment import CHUNKS, FILTERS, INDEX, KEYWORDS, VECTORS, SegmentEntry, SegmentHeader, read_header
from agenthub.rag.vectors import decode_vectors
from agenthub.rag.volume import Volume

_UNIT_TOLERANCE = 1e-3


def verify_snapshot(volume: Volume, kb_id: str, pointer: Pointer) -> list[str]:
    """What is wrong with the pointer's manifest, its segments and all their files; empty when nothing is."""
    try:
        manifest = Manifest.decode(volume.read(kb_id, pointer.file), kb_id, pointer)
    except AgentHubError as error:
        return [f"manifest {pointer.name}: {error.message}"]
    problems = [f"segment {entry.id}: {text}" for entry in manifest.segments for text in _segment(volume, kb_id, manifest, entry)]
    ids = [entry.id for entry in manifest.segments]
    if len(set(ids)) != len(ids):
        problems.append("the manifest lists a segment twice")
    return problems


def _segment(volume: Volume, kb_id: str, manifest: Manifest, entry: SegmentEntry) -> Iterator[str]:
    try:
        header = read_header(volume, kb_id, entry)
    except AgentHubError as error:
        yield error.message
        return
    if header.signature != manifest.signature:
        yield f"it was made with the model {header.signature}, the manifest says {manifest.signature}"
    if entry.covers_generation > manifest.generation:
        yield "it covers a generation that does not exist yet"
    check = _Check(volume, kb_id, header)
    for one in (check.vectors, check.index, check.chunks, check.keywords):
        try:
            one()
        except AgentHubError as error:
            yield error.message


class _Check:
    """The checks of one segment; each raises what it finds."""

    def __init__(self, volume: Volume, kb_id: str, header: SegmentHeader) -> None:
        self._volume = volume
        self._kb_id = kb_id
        self._header = header

    def vectors(self) -> None:
        vectors = self._vectors()
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):
            raise CorruptFile("vectors.f32 has rows that are not of length 1")

    def index(self) -> None:
        header = self._header
        index = open_index(self._load(INDEX), header.index, header.chunk_count, header.dimension)
        if not np.array_equal(index.vectors, self._vectors()):
            raise CorruptFile("index.faiss has other vectors than vectors.f32")

    def chunks(self) -> None:
        lines = ChunkLines(self._load(CHUNKS), self._header.chunk_count)
        stored = Columns.decode(self._load(FILTERS), self._header.chunk_count)
        if Columns.of(lines.chunks()).encode() != stored.encode():
            raise CorruptFile("filters.safetensors does not say what chunks.jsonl says")

    def keywords(self) -> None:
        KeywordIndex.decode(self._load(KEYWORDS), self._header.chunk_count)

    def _vectors(self) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return decode_vectors(self._load(VECTORS), self._header.chunk_count, self._header.dimension)

    def _load(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return self._volume.load(self._kb_id, self._header.files[name])
