"""The process an archive from outside is unpacked in: `python -m agenthub.rag.parsing.unpacking_child`, started by `unpacking` only.

Standard input is the archive as a file, so nothing of it is in memory but the entry at hand. What comes out are frames: a line of
JSON, then as many bytes as it says. It limits itself before it reads a byte, and writes no file.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from agenthub.core.errors import AgentHubError, PayloadTooLarge, UnsupportedDocument
from agenthub.core.json import dumps, loads
from agenthub.rag.parsing.child import confine
from agenthub.rag.parsing.kinds import is_archive
from agenthub.rag.parsing.limits import ParsingLimits

DAMAGED: Final = "the archive is damaged or incomplete"
ENCRYPTED: Final = "it is encrypted"
NESTED: Final = "it is an archive inside the archive"
_STEP_BYTES: Final = 256 * 1024
_RATIO_FREE_BYTES: Final = 1_000_000
_SNIFFED_BYTES: Final = 512
_XZ_MEMORY_BYTES: Final = 100_000_000
_NAME_CHARACTERS: Final = 1_000
_ZIP_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})
_OFFICE_ENDINGS: Final = (".docx", ".docm", ".dotx", ".xlsx", ".xlsm", ".xltx", ".pptx", ".pptm", ".ppsx", ".potx")
_BROKEN: Final = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, KeyError, OSError,
    OverflowError, RuntimeError,
)  # fmt: skip


@dataclass(slots=True)
class _Total:
    """What was unpacked so far, over all entries."""

    limits: ParsingLimits
    packed_bytes: int
    count: int = 0
    unpacked_bytes: int = 0

    def entry(self) -> None:
        self.count += 1
        if self.count > self.limits.archive_entries:
            raise PayloadTooLarge(f"the archive holds more than {self.limits.archive_entries:,} files")

    def unpacked(self, count: int, packed_bytes: int) -> None:
        """Take note of bytes; `packed_bytes` is what they came out of as far as is known."""
        self.unpacked_bytes += count
        if self.unpacked_bytes > self.limits.archive_bytes:
            raise PayloadTooLarge(f"the archive unpacks to more than {self.limits.archive_bytes:,} bytes")
        if self.unpacked_bytes > _RATIO_FREE_BYTES and self.unpacked_bytes > self.limits.archive_ratio * max(packed_bytes, 1):
            raise PayloadTooLarge(f"the archive is compressed more than {self.limits.archive_ratio}:1, as a bomb is")


class _Metered(io.RawIOBase):
    """A decompressing stream whose output is counted as it comes, also what a tar reader skips."""

    def __init__(self, inner: BinaryIO, total: _Total) -> None:
        self._inner = inner
        self._total = total

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(min(len(buffer), _STEP_BYTES))
        self._total.unpacked(len(data), self._total.packed_bytes)
        buffer[: len(data)] = data
        return len(data)


def main() -> None:
    """Write a frame for each file of the archive, then one for the end or the reason why there is none."""
    limits = ParsingLimits(**loads(sys.argv[1]))
    confine(limits)
    out = sys.stdout.buffer
    try:
        for name, data, reason in _entries(cast("BinaryIO", sys.stdin.buffer), limits):
            _frame(out, {"name": name, "bytes": len(data), "reason": reason}, data)
        _frame(out, {"end": True})
    except (UnsupportedDocument, PayloadTooLarge) as refusal:
        _frame(out, {"refused": type(refusal).__name__, "message": refusal.message})
    except MemoryError:
        _frame(out, {"refused": "UnsupportedDocument", "message": "unpacking the archive needs too much memory"})
    out.flush()
    os._exit(0)


def _frame(out: BinaryIO, head: dict[str, Any], data: bytes = b"") -> None:
    out.write(dumps(head) + b"\n" + data)
    out.flush()


def _entries(stream: BinaryIO, limits: ParsingLimits) -> Iterator[tuple[str, bytes, str]]:
    """(name, content, why it is left out) for every file in the archive."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(_SNIFFED_BYTES)
    stream.seek(0)
    total = _Total(limits, size)
    try:
        if head.startswith(b"PK"):
            yield from _zip_entries(stream, total)
        else:
            yield from _tar_entries(stream, head, total)
    except AgentHubError:
        raise
    except _BROKEN as error:
        raise UnsupportedDocument(DAMAGED) from error


# --- zip ---


def _zip_entries(stream: BinaryIO, total: _Total) -> Iterator[tuple[str, bytes, str]]:
    with zipfile.ZipFile(stream) as archive:
        if len(archive.filelist) > total.limits.archive_entries:
            raise PayloadTooLarge(f"the archive holds more than {total.limits.archive_entries:,} files")
        for entry in archive.infolist():
            total.entry()
            if entry.is_dir():
                continue
            reason = _zip_reason(entry, total.limits)
            data = b"" if reason else _zip_content(archive, entry, total)
            yield entry.filename, *_judged(entry.filename, data, reason)


def _zip_reason(entry: zipfile.ZipInfo, limits: ParsingLimits) -> str:
    if (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        return "it is a link or a device"
    if entry.flag_bits & 0x1:
        return ENCRYPTED
    if entry.compress_type not in _ZIP_METHODS:
        return "it is packed in a way that is not known here"
    return _too_large(limits) if entry.file_size > limits.file_bytes else ""


def _zip_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, total: _Total) -> bytes:
    data = bytearray()
    with archive.open(entry) as stream:
        while step := stream.read(_STEP_BYTES):
            data += step
            total.unpacked(len(step), total.packed_bytes)
            # The directory may lie about the size; entries may share their packed bytes, as in bombs of overlapping files.
            if len(data) > max(entry.file_size, _RATIO_FREE_BYTES) or (
                len(data) > _RATIO_FREE_BYTES and len(data) > total.limits.archive_ratio * max(entry.compress_size, 1)
            ):
                raise PayloadTooLarge(f"a file of the archive is compressed more than {total.limits.archive_ratio}:1, as a bomb is")
    return bytes(data)


# --- tar ---


def _tar_entries(stream: BinaryIO, head: bytes, total: _Total) -> Iterator[tuple[str, bytes, str]]:
    opened = _Metered(_decompressed(stream, head), total)
    with tarfile.open(fileobj=io.BufferedReader(opened, _STEP_BYTES), mode="r|", errorlevel=2) as archive:
        for entry in archive:
            total.entry()
            if entry.isdir():
                continue
            reason = _tar_reason(entry, total.limits)
            content = None if reason else archive.extractfile(entry)
            data = content.read() if content else b""
            if not reason and len(data) != entry.size:
                raise UnsupportedDocument(DAMAGED)
            yield entry.name, *_judged(entry.name, data, reason)
    if not total.count:
        raise UnsupportedDocument("the file is compressed, but no tar archive")


def _decompressed(stream: BinaryIO, head: bytes) -> BinaryIO:
    openers: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
        (b"\x1f\x8b", _Gzip),
        (b"BZh", bz2.BZ2File),
        (b"\xfd7zXZ\x00", _Xz),
    )
    for mark, opener in openers:
        if head.startswith(mark):
            return cast("BinaryIO", opener(stream))
    return stream


class _Unpacker:
    """Reads through a decompressor with bounded output, so that a bomb is seen before it is in memory."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._unpacking = self._fresh()

    def _fresh(self) -> Any:
        raise NotImplementedError

    def _step(self, data: bytes, most: int) -> bytes:
        raise NotImplementedError

    def read(self, most: int) -> bytes:
        """Up to `most` unpacked bytes; none at the end."""
        while True:
            if self._unpacking.eof:
                rest = self._unpacking.unused_data or self._packed.read(_STEP_BYTES)
                if not rest.strip(b"\x00"):
                    return b""
                self._unpacking = self._fresh()
                data = self._step(rest, most)
            else:
                data = self._step(b"", most)
                if not data and not self._unpacking.eof:
                    more = self._packed.read(_STEP_BYTES)
                    if not more:
                        raise EOFError
                    data = self._step(more, most)
            if data:
                return data


class _Gzip(_Unpacker):
    def _fresh(self) -> Any:
        self._tail = b""
        return zlib.decompressobj(31)

    def _step(self, data: bytes, most: int) -> bytes:
        unpacked: bytes = self._unpacking.decompress(self._tail + data, most)
        self._tail = self._unpacking.unconsumed_tail
        return unpacked


class _Xz(_Unpacker):
    def _fresh(self) -> Any:
        return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)

    def _step(self, data: bytes, most: int) -> bytes:
        return cast("bytes", self._unpacking.decompress(data, most))


def _tar_reason(entry: tarfile.TarInfo, limits: ParsingLimits) -> str:
    if not entry.isreg():
        return "it is a link or a device"
    return _too_large(limits) if entry.size > limits.file_bytes else ""


# --- both ---


def _judged(name: str, data: bytes, reason: str) -> tuple[bytes, str]:
    """The content and why it is left out, where it is another archive and not an Office document."""
    if not reason and is_archive(data[:_SNIFFED_BYTES]) and not name.lower().endswith(_OFFICE_ENDINGS):
        return b"", NESTED
    if not reason and len(name) > _NAME_CHARACTERS:
        return b"", "its name is too long"
    return data, reason


def _too_large(limits: ParsingLimits) -> str:
    return f"it is larger than {limits.file_bytes:,} bytes"


if __name__ == "__main__":
    main()
