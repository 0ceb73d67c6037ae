"""Segments whose chunks and vectors are in Milvus (the contract is `agenthub.rag.contract.Segments`).

What is small and has to be exact stays on the volume: the header with the hashes of all rows, the keyword index, the filter columns.
A file on the volume announces every segment before a row of it is sent, so whatever a killed writer leaves in Milvus is found by the
collector under a name it knows, and nothing ever has to be guessed from what Milvus holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from agenthub.core.errors import CorruptFile, VectorEngineUnavailable, VolumeUnavailable, WrongVectorEngine
from agenthub.core.observe import Observer
from agenthub.rag.chunks import Chunk, decode_chunk, id_hashes
from agenthub.rag.configuration import MilvusSettings, RagSettings
from agenthub.rag.contract import Damage, Rows
from agenthub.rag.joining import Run
from agenthub.rag.manifest import SegmentEntry
from agenthub.rag.milvus.nearest import Nearest
from agenthub.rag.milvus.rows import MilvusLines, Packed, document_key, read_lines, rows_of
from agenthub.rag.milvus.server import MilvusServer
from agenthub.rag.opened import Opening, OpenSegment, fitting_header
from agenthub.rag.ranking import Live, Ranked
from agenthub.rag.references import FileRef
from agenthub.rag.segment import (
    CHUNKS,
    FILTERS,
    HEADER,
    KEYWORDS,
    Draft,
    SegmentHeader,
    file_of,
    headers_last,
    put_header,
    read_header,
    segment_of,
)
from agenthub.rag.vectors import Vectors
from agenthub.rag.verifying import HeaderCheck, check_lengths, header_of
from agenthub.rag.volume import Volume

_REMAINS: Final = ("rows deleted in Milvus, in its files and write-ahead log, until its compaction and garbage collection remove them",)
_ROWS: Final = "rows in Milvus"


class MilvusSegments:
    """Segments in Milvus. All knowledge bases of one dimension share a collection, of which they are the partition keys."""

    remains: Sequence[str] = _REMAINS
    shadows: bool = False  # a collection has one dimension

    def __init__(self, volume: Volume, settings: RagSettings, milvus: MilvusSettings) -> None:
        self._volume = volume
        self._fraction = settings.brute_force_fraction
        self._address = milvus.url
        self._server = MilvusServer(milvus)

    # -- searching

    def nearest(self, live: Sequence[Live], _runs: Sequence[Run], queries: Vectors, count: int) -> list[Ranked]:
        return Nearest(self._server, live, queries, count).ranked(self._fraction)

    def lines(self, places: Sequence[tuple[OpenSegment, int]]) -> list[bytes]:
        found = read_lines(self._server, [(_lines_of(segment), row) for segment, row in places])
        for (segment, row), line in zip(places, found, strict=True):
            _check_owner(segment, row, line)
        return found

    def open(self, kb_id: str, entry: SegmentEntry, signature: str, observer: Observer) -> OpenSegment:
        lines = self._lines(kb_id, fitting_header(self._volume, kb_id, entry, signature))
        self._server.collection(lines.header.dimension)
        return Opening(self._volume, kb_id, lines.header, lines, observer).segment(None)

    # -- writing

    def write(self, kb_id: str, chunks: Sequence[Chunk], vectors: Vectors, *, signature: str, language: str) -> SegmentEntry:
        packed = Packed.of(Draft.of(chunks, vectors, language))
        header = packed.draft.header(signature, language, "milvus")
        collection = self._server.collection(header.dimension)
        header = replace(header, files=self._announced(kb_id, packed))
        # If this fails the files stay: they are how the collector knows of rows that may be there, or still come.
        header = replace(header, elsewhere=packed.send(self._server, collection, kb_id))
        self._check_count(kb_id, header)
        try:
            entry = put_header(self._volume, kb_id, header)
        except BaseException:
            self._withdraw(kb_id, header.id, list(header.files.values()))
            raise
        return replace(entry, size_bytes=entry.size_bytes + packed.draft.units.nbytes + len(packed.draft.lines))

    def _announced(self, kb_id: str, packed: Packed) -> dict[str, FileRef]:
        """Write the segment's files, before anything is in Milvus."""
        draft, written = packed.draft, dict[str, FileRef]()
        contents = {KEYWORDS: draft.keywords, FILTERS: draft.filters} | ({CHUNKS: packed.long_lines} if packed.long_rows else {})
        try:
            for name, data in contents.items():
                written[name] = self._volume.put_new(kb_id, file_of(draft.id, name), data)
        except BaseException:
            self._volume.discard(kb_id, list(written.values()))
            raise
        return written

    def _check_count(self, kb_id: str, header: SegmentHeader) -> None:
        """Return if the rows can be seen, each once: what a repeated request inserted twice is given up."""
        assert header.elsewhere is not None
        count = self._server.count(header.elsewhere.collection, rows_of(kb_id, [header.id]), header.elsewhere.written_at)
        if count != header.chunk_count:
            raise VectorEngineUnavailable(f"{count} rows are in Milvus instead of {header.chunk_count}; try again", retry_after_seconds=1.0)

    def discard(self, kb_id: str, entry: SegmentEntry) -> None:
        try:
            files = [*read_header(self._volume, kb_id, entry).files.values(), entry.header]
        except VolumeUnavailable:
            return
        self._withdraw(kb_id, entry.id, files)

    def _withdraw(self, kb_id: str, segment_id: str, files: Sequence[FileRef]) -> None:
        """Remove rows and then files of a segment that nobody saw; what can't be removed now is left to the collector."""
        try:
            self._delete(kb_id, [segment_id])
        except VectorEngineUnavailable:
            return
        self._volume.discard(kb_id, files)

    def remove(self, kb_id: str, names: Sequence[str]) -> int:
        segment_ids = sorted({segment_of(name) for name in names} - {""})
        if segment_ids:
            self._delete(kb_id, segment_ids)
        return self._volume.remove(kb_id, headers_last(names))

    def _delete(self, kb_id: str, segment_ids: Sequence[str]) -> None:
        for collection in self._server.collections():
            self._server.delete(collection, rows_of(kb_id, segment_ids))

    # -- reading

    def rows(self, kb_id: str, entry: SegmentEntry) -> Iterator[Rows]:
        return self._lines(kb_id, read_header(self._volume, kb_id, entry)).parts()

    def chunks(self, kb_id: str, entry: SegmentEntry) -> Iterator[Chunk]:
        return self._lines(kb_id, read_header(self._volume, kb_id, entry)).chunks()

    def check(self, kb_id: str, entry: SegmentEntry, signature: str) -> list[Damage]:
        header, found = header_of(self._volume, kb_id, entry, signature)
        return found if header is None else [*_RowsCheck(self._server, self._volume, kb_id, header).run(), *found]

    def rewritten(self, kb_id: str, entry: SegmentEntry) -> SegmentEntry:
        lines = self._lines(kb_id, read_header(self._volume, kb_id, entry))
        parts = list(lines.parts())
        chunks = [chunk for part in parts for chunk in part.chunks]
        vectors = np.concatenate([part.vectors for part in parts])
        return self.write(kb_id, chunks, vectors, signature=lines.header.signature, language=lines.header.language)

    def mentions(self, kb_id: str, segment_id: str, document_id: str) -> bool:
        expression = f'{rows_of(kb_id, [segment_id])} and document == "{document_key(document_id)}"'
        if self._counted(expression):
            return True
        return self._volume.contains(kb_id, file_of(segment_id, HEADER), b"{") and not self._counted(rows_of(kb_id, [segment_id]))

    def _counted(self, expression: str) -> bool:
        return any(self._server.count(name, expression, 0) for name in self._server.collections())

    def self_test(self) -> Mapping[str, Any]:
        return {"engine": "milvus", "address": self._address, "version": self._server.version()}

    def close(self) -> None:
        self._server.close()

    def _lines(self, kb_id: str, header: SegmentHeader) -> MilvusLines:
        if header.elsewhere is None:
            raise WrongVectorEngine("this knowledge base is on the volume: unset VECTOR_STORE_URL, or import a bundle of it here")
        return MilvusLines(self._server, self._volume, kb_id, header)


class _RowsCheck(HeaderCheck):
    """The checks of a segment in Milvus."""

    def __init__(self, server: MilvusServer, volume: Volume, kb_id: str, header: SegmentHeader) -> None:
        super().__init__(volume, kb_id, header)
        if header.elsewhere is None:
            raise WrongVectorEngine("this knowledge base is on the volume: unset VECTOR_STORE_URL, or import a bundle of it here")
        self._server = server
        self._lines = MilvusLines(server, volume, kb_id, header)

    def run(self) -> list[Damage]:
        """All that is wrong. The derived files are compared with the rows where those are whole."""
        self.noted("truth", _ROWS, self._count)
        self.derived(self.noted("truth", _ROWS, self._chunks))
        return self.found

    def _count(self) -> None:
        elsewhere = self._lines.elsewhere
        count = self._server.count(elsewhere.collection, rows_of(self.kb_id, [self.header.id]), elsewhere.written_at)
        if count != self.header.chunk_count:
            raise CorruptFile(f"{count} rows are in Milvus instead of {self.header.chunk_count}")

    def _chunks(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        for part in self._lines.parts():
            check_lengths(part.vectors)
            chunks += part.chunks
        if len({chunk.id for chunk in chunks}) != len(chunks):
            raise CorruptFile("it has a chunk twice")
        return chunks


def _lines_of(segment: OpenSegment) -> MilvusLines:
    assert isinstance(segment.lines, MilvusLines), "a segment of another adapter"
    return segment.lines


def _check_owner(segment: OpenSegment, row: int, line: bytes) -> None:
    """Return if this is the row's chunk, as far as its id tells. Raises: CorruptFile."""
    hashes = id_hashes([decode_chunk(line).id])
    if not any(row in rows for _, rows in segment.columns.chunk_ids.find(hashes)):
        raise CorruptFile(f"row {row} of segment {segment.header.id} in Milvus is not the chunk that was written")
