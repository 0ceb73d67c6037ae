"""The first adapter of the vector engine: everything of a segment is in files on the volume, searched in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final

from agenthub.core.errors import CorruptFile, VolumeUnavailable, WrongVectorEngine
from agenthub.core.observe import Observer
from agenthub.rag.chunks import Chunk, ChunkLines, decode_chunk
from agenthub.rag.configuration import RagSettings
from agenthub.rag.contract import Damage, Rows
from agenthub.rag.joining import Run
from agenthub.rag.manifest import SegmentEntry
from agenthub.rag.opened import OpenSegment, open_segment
from agenthub.rag.ranking import Live, Ranked, nearest, together
from agenthub.rag.references import FileRef
from agenthub.rag.repairing import rewritten
from agenthub.rag.segment import (
    CHUNKS,
    HEADER,
    REMOTE,
    VECTORS,
    SegmentHeader,
    file_of,
    headers_last,
    read_header,
    segment_of,
    write_segment,
)
from agenthub.rag.vectors import Vectors, decode_vectors
from agenthub.rag.verifying import check_files
from agenthub.rag.volume import Volume

_ROWS: Final = 1024
"""Rows handed out at a time."""
_JSON: Final = b"{"
"""Occurs in every header and in every line of chunks."""


class VolumeSegments:
    """Segments as files (the contract is `Segments`)."""

    remains: Sequence[str] = ()
    shadows: bool = True

    def __init__(self, volume: Volume, settings: RagSettings) -> None:
        self.volume = volume
        self._fraction = settings.brute_force_fraction

    def nearest(self, live: Sequence[Live], runs: Sequence[Run], queries: Vectors, count: int) -> list[Ranked]:
        return nearest(together(live, runs), queries, count, self._fraction)

    def lines(self, places: Sequence[tuple[OpenSegment, int]]) -> list[bytes]:
        return [segment.lines[row] for segment, row in places]

    def write(self, kb_id: str, chunks: Sequence[Chunk], vectors: Vectors, *, signature: str, language: str) -> SegmentEntry:
        return write_segment(self.volume, kb_id, chunks, vectors, signature=signature, language=language)

    def discard(self, kb_id: str, entry: SegmentEntry) -> None:
        files: list[FileRef] = []
        with suppress(VolumeUnavailable):
            files = list(read_header(self.volume, kb_id, entry).files.values())
        self.volume.discard(kb_id, [*files, entry.header])

    def open(self, kb_id: str, entry: SegmentEntry, signature: str, observer: Observer) -> OpenSegment:
        return open_segment(self.volume, kb_id, entry, signature, observer)

    def rows(self, kb_id: str, entry: SegmentEntry) -> Iterator[Rows]:
        header = self._header(kb_id, entry)
        lines = self._lines(kb_id, header)
        vectors = decode_vectors(self.volume.load(kb_id, header.files[VECTORS]), header.chunk_count, header.dimension)
        for start in range(0, header.chunk_count, _ROWS):
            end = min(start + _ROWS, header.chunk_count)
            yield Rows(start, [lines.chunk(row) for row in range(start, end)], vectors[start:end])

    def chunks(self, kb_id: str, entry: SegmentEntry) -> Iterator[Chunk]:
        return self._lines(kb_id, self._header(kb_id, entry)).chunks()

    def check(self, kb_id: str, entry: SegmentEntry, signature: str) -> list[Damage]:
        return check_files(self.volume, kb_id, entry, signature)

    def rewritten(self, kb_id: str, entry: SegmentEntry) -> SegmentEntry:
        self._header(kb_id, entry)
        return rewritten(self.volume, kb_id, entry)

    def mentions(self, kb_id: str, segment_id: str, document_id: str) -> bool:
        lines, header = file_of(segment_id, CHUNKS), file_of(segment_id, HEADER)
        with closing(self.volume.lines_with(kb_id, lines, document_id.encode())) as found:
            if any(_may_be_of(document_id, line) for line in found):
                return True
        return self.volume.contains(kb_id, header, _JSON) and not self.volume.contains(kb_id, lines, _JSON)

    def remove(self, kb_id: str, names: Sequence[str]) -> int:
        for name in names:
            if name == file_of(segment_of(name), HEADER) and self.volume.contains(kb_id, name, REMOTE):
                raise WrongVectorEngine(f"the rows of segment {segment_of(name)} are in Milvus: set VECTOR_STORE_URL to remove them")
        return self.volume.remove(kb_id, headers_last(names))

    def self_test(self) -> Mapping[str, Any]:
        return {"engine": "faiss"}

    def close(self) -> None:
        return None

    def _header(self, kb_id: str, entry: SegmentEntry) -> SegmentHeader:
        return read_header(self.volume, kb_id, entry).of_volume()

    def _lines(self, kb_id: str, header: SegmentHeader) -> ChunkLines:
        return ChunkLines(self.volume.load(kb_id, header.files[CHUNKS]), header.chunk_count, self.volume.unload)


def _may_be_of(document_id: str, line: bytes) -> bool:
    """Whether a line with this id in it is a chunk of that document; of a line that broke off it has to be assumed.

    Texts and metadata name documents too. Who takes those for the document rewrites them for ever.
    """
    try:
        return decode_chunk(line).document_id == document_id
    except CorruptFile:
        return True
