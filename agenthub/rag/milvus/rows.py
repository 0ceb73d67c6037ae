"""The rows of segments in Milvus: how they are named, written in parts, read back and verified."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from agenthub.core.errors import CorruptFile, MissingFile
from agenthub.core.failpoints import failpoint
from agenthub.rag.chunks import Chunk, ChunkLines, decode_chunk
from agenthub.rag.configuration import MIB
from agenthub.rag.contract import Rows
from agenthub.rag.milvus.server import MAX_LINE_BYTES, MilvusServer
from agenthub.rag.segment import CHUNKS, Draft, Elsewhere, Part, SegmentHeader
from agenthub.rag.vectors import Vectors
from agenthub.rag.volume import Volume

_PART_ROWS: Final = 1024
_PART_BYTES: Final = 4 * MIB
"""A part of a segment ends at so many rows or bytes, whichever comes first: what one request of the server carries."""
_OWN: Final = re.compile(r"[0-9a-z]{26}\Z")
_ONCE: Final = 500
"""Rows asked for by id in one query."""


def rows_of(kb_id: str, segment_ids: Sequence[str]) -> str:
    """The expression that is true for the rows of these segments. Only names that we make stand in expressions.

    Raises: ValueError for another name.
    """
    if not all(_OWN.match(name) for name in (kb_id, *segment_ids)):
        raise ValueError("not the name of a knowledge base or segment")
    listed = ", ".join(f'"{name}"' for name in segment_ids)
    return f'kb == "{kb_id}" and segment in [{listed}]'


def row_id(segment_id: str, row: int) -> str:
    """The key of a row."""
    return f"{segment_id}.{row}"


def document_key(document_id: str | None) -> str:
    """What stands in the document column: a hash, so that no text of others comes into an expression."""
    return "" if document_id is None else hashlib.blake2b(document_id.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of a draft that travel together."""

    first: int
    lines: Sequence[bytes]
    units: Vectors

    @property
    def part(self) -> Part:
        return Part(len(self.lines), _sha256(self.units, self.lines))


@dataclass(frozen=True, slots=True)
class Packed:
    """A draft, ready to be sent. `long_lines` are those that no column holds, as the bytes of a chunk file."""

    draft: Draft
    pieces: tuple[_Piece, ...]
    long_rows: tuple[int, ...]
    long_lines: bytes

    @classmethod
    def of(cls, draft: Draft) -> Packed:
        """The draft's rows in pieces of bounded size."""
        count, units = len(draft.chunks), draft.units.astype("<f4", copy=False)
        lines = ChunkLines(np.frombuffer(draft.lines, dtype=np.uint8), count).read(range(count))
        pieces: list[_Piece] = []
        first = size = 0
        for row, line in enumerate(lines):
            size += len(line) + units.shape[1] * 4
            if row - first + 1 == _PART_ROWS or size >= _PART_BYTES or row == count - 1:
                pieces.append(_Piece(first, lines[first : row + 1], units[first : row + 1]))
                first, size = row + 1, 0
        long_rows = tuple(row for row, line in enumerate(lines) if len(line) > MAX_LINE_BYTES)
        return cls(draft, tuple(pieces), long_rows, b"".join(lines[row] + b"\n" for row in long_rows))

    def send(self, server: MilvusServer, collection: str, kb_id: str) -> Elsewhere:
        """Insert all rows.

        Raises: VectorEngineUnavailable: then any number of them may be there, or still come.
        """
        written_at = 0
        for piece in self.pieces:
            failpoint("milvus.insert")
            written_at = max(written_at, server.insert(collection, [self._row(kb_id, piece, place) for place in range(len(piece.lines))]))
        server.settle(collection, len(self.draft.chunks))
        failpoint("milvus.inserted")
        return Elsewhere(collection, written_at, tuple(piece.part for piece in self.pieces), self.long_rows)

    def _row(self, kb_id: str, piece: _Piece, place: int) -> dict[str, Any]:
        row, line = piece.first + place, piece.lines[place]
        return {
            "id": row_id(self.draft.id, row),
            "kb": kb_id,
            "segment": self.draft.id,
            "row": row,
            "document": document_key(self.draft.chunks[row].document_id),
            "line": "" if len(line) > MAX_LINE_BYTES else line.decode(),
            "vector": piece.units[place],
        }


class MilvusLines:
    """The lines of a segment's chunks in Milvus (the contract is `Lines`); those too long for it are on the volume."""

    def __init__(self, server: MilvusServer, volume: Volume, kb_id: str, header: SegmentHeader) -> None:
        assert header.elsewhere is not None
        self.kb_id = kb_id
        self.header = header
        self.elsewhere: Elsewhere = header.elsewhere
        self._server = server
        self._volume = volume

    def __len__(self) -> int:
        return self.header.chunk_count

    def __getitem__(self, row: int) -> bytes:
        return self.read([row])[0]

    def read(self, rows: Sequence[int]) -> list[bytes]:
        return read_lines(self._server, [(self, row) for row in rows])

    def chunk(self, row: int) -> Chunk:
        return decode_chunk(self[row])

    def chunks(self) -> Iterator[Chunk]:
        for part in self.parts():
            yield from part.chunks

    def parts(self) -> Iterator[Rows]:
        """All rows in order, a part at a time, verified.

        Raises: MissingFile when all of a part is gone; CorruptFile; VectorEngineUnavailable.
        """
        first = 0
        for part in self.elsewhere.parts:
            yield self._part(first, part)
            first += part.row_count

    def _part(self, first: int, part: Part) -> Rows:
        end = first + part.row_count
        expression = f"{rows_of(self.kb_id, [self.header.id])} and row >= {first} and row < {end}"
        found = self._server.query(self.elsewhere.collection, expression, ["row", "line", "vector"], self.elsewhere.written_at)
        if not found:
            raise MissingFile(f"rows {first} to {end - 1} of segment {self.header.id} are not in Milvus")
        found.sort(key=lambda one: int(one["row"]))
        lines = [one["line"].encode() for one in found]
        for place, one in enumerate(found):
            if not lines[place]:
                lines[place] = self.long_line(int(one["row"]))
        vectors = np.array([one["vector"] for one in found], dtype="<f4")
        if [int(one["row"]) for one in found] != list(range(first, end)) or _sha256(vectors, lines) != part.sha256:
            raise CorruptFile(f"rows {first} to {end - 1} of segment {self.header.id} in Milvus are not those that were written")
        return Rows(first, [decode_chunk(line) for line in lines], vectors)

    def long_line(self, row: int) -> bytes:
        """A line that is on the volume. Raises: CorruptFile when there is none; as `Volume.read`."""
        rows = self.elsewhere.long_rows
        if row not in rows or CHUNKS not in self.header.files:
            raise CorruptFile(f"row {row} of segment {self.header.id} has no text")
        return ChunkLines(self._volume.load(self.kb_id, self.header.files[CHUNKS]), len(rows))[rows.index(row)]


def read_lines(server: MilvusServer, places: Sequence[tuple[MilvusLines, int]]) -> list[bytes]:
    """The lines of rows of one knowledge base's segments, in the order they are asked for.

    Raises: MissingFile when one is gone; CorruptFile; VectorEngineUnavailable.
    """
    found: dict[str, str] = {}
    wanted = sorted({row_id(lines.header.id, row) for lines, row in places})
    for start in range(0, len(wanted), _ONCE):
        some = wanted[start : start + _ONCE]
        since = newest([lines.elsewhere for lines, _ in places])
        one = places[0][0]
        listed = ", ".join(f'"{key}"' for key in some)
        rows = server.query(one.elsewhere.collection, f'kb == "{one.kb_id}" and id in [{listed}]', ["id", "line"], since)
        found |= {str(row["id"]): str(row["line"]) for row in rows}
    return [_line(found, lines, row) for lines, row in places]


def _line(found: dict[str, str], lines: MilvusLines, row: int) -> bytes:
    line = found.get(row_id(lines.header.id, row))
    if line is None:
        raise MissingFile(f"row {row} of segment {lines.header.id} is not in Milvus")
    return line.encode() or lines.long_line(row)


def newest(places: Sequence[Elsewhere]) -> int:
    """The timestamp from which on all these are seen; 0 when one has none."""
    return 0 if any(not one.written_at for one in places) else max((one.written_at for one in places), default=0)


def _sha256(units: Vectors, lines: Sequence[bytes]) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(units, dtype="<f4").data)
    for line in lines:
        digest.update(line)
        digest.update(b"\n")
    return digest.hexdigest()
