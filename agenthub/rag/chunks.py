"""Chunks and their file: one JSON object a line, found by row without reading the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Final, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, InvalidInput
from agenthub.rag.strings import encode

_NEWLINE: Final = 10
_SCAN_BYTES: Final = 4 * 1024 * 1024
_READS: Final = 1024
"""After so many lines the file's pages leave the process: each read line brings up to 64 KB of its neighbourhood, not only its own page."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text that can be found, with the document it came from and what is known about it.

    `context` is the path that leads to it ("Title > Heading"): searched with the text, shown beside it.
    """

    id: str
    document_id: str | None
    text: str
    metadata: Mapping[str, Any]
    context: str = ""

    @property
    def searched_text(self) -> str:
        """What is embedded and indexed: the text and where it stands."""
        return f"{self.context}\n{self.text}" if self.context else self.text


def encode_chunks(chunks: Sequence[Chunk]) -> bytes:
    """The chunks as the file's bytes, in order.

    Raises: InvalidInput, naming the item, when an id comes twice or something isn't JSON.
    """
    seen: set[str] = set()
    lines = BytesIO()  # not a list of lines: each comes in a block of memory thirty times its length (orjson 3.13, seen)
    for index, chunk in enumerate(chunks):
        if chunk.id in seen:
            raise InvalidInput(f"the chunk id {chunk.id!r} comes twice", field=f"items[{index}].id")
        seen.add(chunk.id)
        lines.write(_encode(chunk, index))
    return lines.getvalue()


def _encode(chunk: Chunk, index: int) -> bytes:
    fields = {"id": chunk.id, "document_id": chunk.document_id, "text": chunk.text, "metadata": dict(chunk.metadata)}
    if chunk.context:
        fields["context"] = chunk.context
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"can't be written as JSON: {error}", field=f"items[{index}]") from error


def decode_chunk(line: bytes) -> Chunk:
    """The chunk of one line.

    Raises: CorruptFile when it is not one.
    """
    try:
        fields = orjson.loads(line)
        return Chunk(fields["id"], fields["document_id"], fields["text"], fields["metadata"], fields.get("context", ""))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CorruptFile("a line of a chunk file is not a chunk") from error


class Lines(Protocol):
    """The lines of a segment's chunks, wherever they are. Raises: what reading there raises."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """The lines of these rows, in the order they are asked for."""

    def __getitem__(self, row: int) -> bytes:
        """The line of a row, without its end."""

    def chunk(self, row: int) -> Chunk:
        """The chunk of a row."""

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order."""


class ChunkLines:
    """The lines of a chunk file; reading one touches only its bytes."""

    def __init__(self, data: NDArray[np.uint8], count: int, unload: Callable[[NDArray[np.uint8]], None] | None = None) -> None:
        """`unload` takes the bytes out of this process's memory, for where they come back by themselves.

        Raises: CorruptFile when the file does not have `count` lines.
        """
        ends = [np.flatnonzero(data[at : at + _SCAN_BYTES] == _NEWLINE) + at for at in range(0, len(data), _SCAN_BYTES)]
        self._data = data.data
        self._offsets = np.concatenate([np.zeros(1, dtype=np.int64), *ends], dtype=np.int64)
        self._offsets[1:] += 1
        self._bounds = self._offsets.data  # a memory view gives plain numbers, several times faster than an array does
        if len(self) != count or self._offsets[-1] != len(data):
            raise CorruptFile(f"a chunk file has {len(self)} lines instead of {count}")
        self._unload = None if unload is None else partial(unload, data)
        self._reads = _READS  # the search for line ends has brought all of it

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, row: int) -> bytes:
        """The line of a row, without its end."""
        self._reads += 1  # about: threads may lose some
        if self._reads > _READS and self._unload is not None:
            self._reads = 0
            self._unload()
        return bytes(self._data[self._bounds[row] : self._bounds[row + 1] - 1])

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """The lines of these rows, in the order they are asked for."""
        return [self[row] for row in rows]

    def chunk(self, row: int) -> Chunk:
        """The chunk of a row."""
        return decode_chunk(self[row])

    def chunks(self) -> Iterator[Chunk]:
        """All chunks in order."""
        return (self.chunk(row) for row in range(len(self)))


@dataclass(frozen=True, slots=True)
class IdIndex:
    """From ids to rows: the ids' 64-bit hashes in order, and the row of each. Equal ids lie side by side, rows ascending."""

    hashes: NDArray[np.uint64]
    rows: NDArray[np.uint32]

    @classmethod
    def of(cls, ids: Sequence[str | None]) -> IdIndex:
        """The index of these rows' ids; a row without an id is left out.

        Raises: InvalidInput when two different ids have one hash, which chance does not do.
        """
        rows = np.array([row for row, item in enumerate(ids) if item is not None], dtype=np.uint32)
        present = [item for item in ids if item is not None]
        hashes = id_hashes(present)
        if len(np.unique(hashes)) != len(set(present)):
            raise InvalidInput("two ids of these items can't be told apart; rename one")
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], rows[order])

    def find(self, hashes: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        """For every hash that is there: its place among those asked for, and the rows that have it."""
        lower = np.searchsorted(self.hashes, hashes, side="left")
        upper = np.searchsorted(self.hashes, hashes, side="right")
        for index in np.flatnonzero(upper > lower):
            yield int(index), self.rows[lower[index] : upper[index]]

    def sound(self, count: int) -> bool:
        """Whether the arrays fit each other and a segment of `count` rows."""
        rows, hashes = self.rows, self.hashes
        return len(rows) == len(hashes) and bool(np.all(rows < count)) and bool(np.all(hashes[1:] >= hashes[:-1]))


def id_hashes(ids: Iterable[str]) -> NDArray[np.uint64]:
    """Eight bytes of BLAKE2b for every id, in order."""
    digests = b"".join(hashlib.blake2b(encode(item), digest_size=8).digest() for item in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)
