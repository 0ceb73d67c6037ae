"""Bundles: a knowledge base's contents as one file (docs/formats/bundle.md). The archive, and the digest of what is in it.

The file is a tar archive of plain members in a fixed order, so it is written and read as a stream. The reader takes nothing but
what the writer writes, byte for byte: a header that differs from the one the standard library makes for a plain file of that
name and size is refused, and with it links, devices, sparse files, extended headers and whatever else tar can hold.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from agenthub.core.errors import InvalidInput, MalformedInput, PayloadTooLarge
from agenthub.core.json import canonical, dumps, loads_untrusted
from agenthub.rag.chunks import Chunk
from agenthub.rag.configuration import MIB

BUNDLE_FORMAT: Final = 2
READABLE_FORMATS: Final = frozenset({1, 2})
"""Format 1 knows no FAQs."""
HEAD: Final = "bundle.json"
TAIL: Final = "manifest.json"
PART_ROWS: Final = 1024
PART_BYTES: Final = 8 * MIB
"""A part of documents or chunks ends at so many rows or bytes, whichever comes first."""
MAX_PART_BYTES: Final = 64 * MIB
"""A single document cut into one chunk may fill a part far beyond `PART_BYTES`."""
MAX_TAIL_BYTES: Final = 256 * MIB
MAX_MEMBERS: Final = 1_000_000
_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _BLOCK)
_PIECE_BYTES: Final = MIB
_DOCUMENT_FIELDS: Final = (
    "title",
    "filename",
    "media_type",
    "size_bytes",
    "sha256",
    "language",
    "page_count",
    "character_count",
    "chunk_count",
    "metadata",
)


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the last one lists it."""

    name: str
    length_bytes: int
    sha256: str


class BundleWriter:
    """Makes the archive's bytes, member by member."""

    def __init__(self) -> None:
        self._members: list[Member] = []

    def member(self, name: str, data: bytes | memoryview) -> bytes:
        """A member's bytes in the archive."""
        view = memoryview(data).cast("B")
        self._members.append(Member(name, view.nbytes, hashlib.sha256(view).hexdigest()))
        return b"".join((_header(name, view.nbytes), view, bytes(_padding(view.nbytes))))

    def end(self, summary: Mapping[str, Any]) -> bytes:
        """The last member, which lists all others, and the archive's end."""
        members = [{"name": m.name, "length_bytes": m.length_bytes, "sha256": m.sha256} for m in self._members]
        return self.member(TAIL, dumps({"format": BUNDLE_FORMAT, **summary, "members": members})) + _END


class BundleReader:
    """Reads the archive's members in order, each whole, and remembers their hashes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.members: list[Member] = []

    def next_name(self) -> tuple[str, int] | None:
        """The next member's name and length in bytes; None at the archive's end. Call `data` or `rest` before the next one.

        Raises: MalformedInput when this isn't a member as bundles have them, or something follows the end.
        """
        block = self._exactly(_BLOCK)
        if block == bytes(_BLOCK):
            if self._exactly(_BLOCK) != bytes(_BLOCK) or self._stream.read(1):
                raise MalformedInput("the bundle does not end where its archive ends")
            return None
        if len(self.members) >= MAX_MEMBERS:
            raise PayloadTooLarge(f"the bundle has more than {MAX_MEMBERS} members")
        return _parsed(block)

    def data(self, name: str, length_bytes: int, most_bytes: int) -> bytes:
        """The bytes of the member just named.

        Raises: PayloadTooLarge when it is longer than `most_bytes`; MalformedInput when the archive ends before.
        """
        if length_bytes > most_bytes:
            raise PayloadTooLarge(f"{name} has {length_bytes} bytes; at most {most_bytes} are taken")
        data = self._exactly(length_bytes)
        if self._exactly(_padding(length_bytes)).strip(b"\x00"):
            raise MalformedInput(f"something is hidden behind {name}")
        self.members.append(Member(name, length_bytes, hashlib.sha256(data).hexdigest()))
        return data

    def check_tail(self, tail: Mapping[str, Any]) -> None:
        """Return if the last member lists exactly the members that came before it.

        Raises: InvalidInput when it doesn't.
        """
        listed = tail.get("members")
        seen = [{"name": m.name, "length_bytes": m.length_bytes, "sha256": m.sha256} for m in self.members[:-1]]
        if listed != seen:
            raise InvalidInput("the bundle is damaged: its members are not those its manifest lists")

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._stream.read(min(count, _PIECE_BYTES))
            if not piece:
                raise MalformedInput("the bundle is truncated, or no bundle")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


class ContentDigest:
    """A hash of what a knowledge base holds: documents, chunks and vectors. It depends neither on their order, nor on how they
    are spread over segments, nor on ids of documents, which are new wherever a bundle is imported.
    """

    def __init__(self, signature: str, dimension: int, language: str) -> None:
        self._about = canonical({"signature": signature, "dimension": dimension, "language": language})
        self._documents: dict[str, bytes] = {}
        self._chunks: list[bytes] = []

    def add_document(self, document_id: str, fields: Mapping[str, Any]) -> None:
        """Count a document in; before its chunks."""
        said = {name: fields[name] for name in _DOCUMENT_FIELDS}
        if fields.get("faq") is not None:
            said["faq"] = fields["faq"]
        self._documents[document_id] = hashlib.sha256(canonical(said)).digest()

    def add_chunks(self, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Count chunks in, with their vectors as they are stored."""
        for chunk, vector in zip(chunks, np.ascontiguousarray(vectors, dtype="<f4"), strict=True):
            document = self._documents[chunk.document_id].hex() if chunk.document_id is not None else None
            said = canonical([chunk.id, document, chunk.text, chunk.context, chunk.metadata])
            self._chunks.append(hashlib.sha256(hashlib.sha256(said).digest() + vector.tobytes()).digest())

    def hexdigest(self) -> str:
        """The digest."""
        whole = hashlib.sha256(self._about)
        for digests in (sorted(self._documents.values()), sorted(self._chunks)):
            whole.update(len(digests).to_bytes(8, "little"))
            for digest in digests:
                whole.update(digest)
        return whole.hexdigest()


def read_object(data: bytes, name: str, fields: frozenset[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The JSON object of a member or line, which has exactly these fields, and none, some or all of the `optional` ones.

    Raises: MalformedInput; InvalidInput.
    """
    value = loads_untrusted(data)
    if not isinstance(value, dict) or value.keys() - optional != fields:
        raise InvalidInput(f"the bundle is not well-formed: {name} should have the fields {', '.join(sorted(fields))}")
    return value


def lines_of(data: bytes, name: str) -> list[bytes]:
    """The lines of a part.

    Raises: MalformedInput when it has none, too many, or an unfinished one.
    """
    lines = data.split(b"\n")
    if lines.pop() or not 1 <= len(lines) <= PART_ROWS:
        raise MalformedInput(f"{name} should have 1 to {PART_ROWS} lines")
    return lines


def part_name(kind: str, number: int) -> str:
    """The name of a numbered part: `chunks` 1 is `chunks-000001.jsonl`."""
    return f"{kind}-{number:06d}.{'f32' if kind == 'vectors' else 'jsonl'}"


def json_line(value: Mapping[str, Any]) -> bytes:
    """One line of a part."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _header(name: str, length_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = length_bytes
    return info.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")


def _parsed(block: bytes) -> tuple[str, int]:
    try:
        name = block[:100].rstrip(b"\x00").decode("ascii")
        length_bytes = int(block[124:135], 8)
        if _header(name, length_bytes) == block:
            return name, length_bytes
    except ValueError:
        pass
    raise MalformedInput("the bundle is not well-formed: a member is not a plain file of a bundle")


def _padding(length_bytes: int) -> int:
    return -length_bytes % _BLOCK
