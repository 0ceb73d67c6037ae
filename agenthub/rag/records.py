"""Records: chunks of a client's own making as lines of JSON, read one by one, with every bad line named."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import AgentHubError, InvalidInput, PayloadTooLarge, UnsupportedDocument
from agenthub.core.json import digest, dumps, loads_untrusted
from agenthub.rag.chunks import Chunk
from agenthub.rag.vector_codec import decode_vector

MAX_LINE_BYTES: Final = 1_000_000
PART_BYTES: Final = 4_000_000
PART_LINES: Final = 1_000
MAX_PARTS: Final = 4_000
MAX_TEXT_CHARACTERS: Final = 32_000
_FIELDS: Final = frozenset({"id", "title", "text", "metadata", "vector"})
_ID: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}\Z")
_TITLE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")
_METADATA_BYTES: Final = 16_384
_METADATA_KEYS: Final = 64
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
_STEP_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """A run of whole lines of a file: where it is, and the number of its first line, from 1 on."""

    start: int
    length_bytes: int
    first_line: int
    line_count: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record, and why not."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """One record as a chunk; `vector` is None where the knowledge base is to embed it. `own_id`: the client named it."""

    line: int
    chunk: Chunk
    vector: NDArray[float32] | None
    own_id: bool


def unpacked(stream: BinaryIO, target: BinaryIO, max_bytes: int) -> BinaryIO:
    """The stream itself, or `target` with what it holds when it is gzipped; either at its beginning.

    Raises: UnsupportedDocument when it is damaged; PayloadTooLarge when it unpacks to more than `max_bytes`.
    """
    gzipped = stream.read(2) == _GZIP
    stream.seek(0)
    if not gzipped:
        return stream
    unpacking, written = zlib.decompressobj(_GZIP_WINDOW), 0
    try:
        while piece := unpacking.unconsumed_tail or stream.read(_STEP_BYTES):
            data = unpacking.decompress(piece, _STEP_BYTES)
            written += len(data)
            if written > max_bytes:
                raise PayloadTooLarge(f"the records unpack to more than {max_bytes:,} bytes")
            target.write(data)
            if unpacking.eof and (rest := unpacking.unused_data or stream.read(_STEP_BYTES)):
                unpacking = zlib.decompressobj(_GZIP_WINDOW)
                stream.seek(-len(rest), io.SEEK_CUR)
    except zlib.error as error:
        raise UnsupportedDocument("the file is damaged: it can't be unpacked") from error
    if not unpacking.eof:
        raise UnsupportedDocument("the file is damaged: its end is missing")
    target.seek(0)
    return target


def parts_of(stream: BinaryIO) -> list[Part]:
    """The file in parts of whole lines, of some 4 MB or 1,000 lines each.

    Raises: InvalidInput naming a line that is longer than a megabyte; PayloadTooLarge for more than 4,000 parts.
    """
    parts: list[Part] = []
    start = length = number = first = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InvalidInput(f"line {number} is longer than {MAX_LINE_BYTES:,} bytes")
        first = first or number
        length += len(line)
        if length >= PART_BYTES or number - first + 1 == PART_LINES:
            parts.append(Part(start, length, first, number - first + 1))
            start, length, first = start + length, 0, 0
    if length:
        parts.append(Part(start, length, first, number - first + 1))
    if len(parts) > MAX_PARTS:
        raise PayloadTooLarge(f"the file has more than {MAX_PARTS:,} parts of {PART_LINES:,} lines; send it in several requests")
    return parts


def read_records(data: bytes, first_line: int, dimension: int | None) -> Iterator[Record | BadLine]:
    """Every line that is not blank, as a record or as what is wrong with it. `dimension` is that of vectors to be given, None where
    the knowledge base embeds.
    """
    for number, line in enumerate(data.split(b"\n"), first_line):
        if not line.strip():
            continue
        try:
            yield _record(number, line, dimension)
        except AgentHubError as error:
            place = f"{error.field}: " if error.field else ""
            yield BadLine(number, f"{place}{error.message}"[:300])


def stacked(records: Sequence[Record]) -> NDArray[float32]:
    """The vectors that came with the records."""
    return np.stack([record.vector for record in records if record.vector is not None])


def _record(number: int, line: bytes, dimension: int | None) -> Record:
    value = loads_untrusted(line)
    if not isinstance(value, dict):
        raise InvalidInput("should be a JSON object")
    if unknown := sorted(value.keys() - _FIELDS):
        raise InvalidInput("is not a field of a record", field=str(unknown[0])[:100])
    text = _text(value.get("text"))
    title = _matching(value.get("title"), _TITLE, "title")
    metadata = _metadata(value.get("metadata"))
    own = _matching(value.get("id"), _ID, "id")
    chunk_id = own or f"record-{digest([text, title, metadata])[:40]}"
    shown = {"title": title, **metadata} if title else metadata
    return Record(number, Chunk(chunk_id, None, text, shown, title or ""), _vector(value.get("vector"), dimension), own is not None)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput("should be a text that is not blank", field="text")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise InvalidInput(f"should be at most {MAX_TEXT_CHARACTERS:,} characters", field="text")
    return value


def _matching(value: Any, form: re.Pattern[str], field: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not form.match(value):
        raise InvalidInput("has characters, a length or a form that is not accepted here", field=field)
    return value


def _metadata(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > _METADATA_KEYS or not all(0 < len(key) <= 100 for key in value):
        raise InvalidInput(f"should be an object of at most {_METADATA_KEYS} keys", field="metadata")
    try:
        size = len(dumps(value))
    except TypeError as error:
        raise InvalidInput("holds a number that does not fit 64 bits", field="metadata") from error
    if size > _METADATA_BYTES:
        raise InvalidInput(f"should be at most {_METADATA_BYTES:,} bytes of JSON", field="metadata")
    return value


def _vector(value: Any, dimension: int | None) -> NDArray[float32] | None:
    if dimension is None:
        if value is not None:
            raise InvalidInput("this knowledge base embeds texts itself; don't send vectors", field="vector")
        return None
    if value is None:
        raise InvalidInput("this knowledge base has no model: every record needs a vector", field="vector")
    numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    if not numbers and not isinstance(value, str):
        raise InvalidInput("should be numbers, or base64 of little-endian float32", field="vector")
    return decode_vector(value, dimension, "vector")
