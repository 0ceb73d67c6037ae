"""The files of an archive from outside, one after the other, unpacked in a child process with limits (RELIABILITY.md D2-11).

Names are only told, never used as paths. Bounds are those of `ParsingLimits`: files, bytes in all, and how much more comes out than
went in. Archives inside, links, devices and encrypted files are left out with the reason.
"""

from __future__ import annotations

import selectors
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any, Final, cast

from agenthub.core.errors import MalformedInput, PayloadTooLarge, UnsupportedDocument
from agenthub.core.json import loads
from agenthub.rag.parsing import unpacking_child
from agenthub.rag.parsing.kinds import ZIP_SIGNATURE, extension_of, is_archive
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.sandbox import end_child, start_child

ARCHIVE_ENDINGS: Final = frozenset({"zip", "tar", "tgz", "gz", "tbz2", "bz2", "txz", "xz"})
_HEAD_BYTES: Final = 16_384
_PIECE_BYTES: Final = 256 * 1024
_DIED: Final = "unpacking the archive crashed, or needed too much memory: it is damaged or made to do harm"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive: its content, or the `reason` why it is left out. `name` is the path in the archive, made harmless."""

    name: str
    data: bytes
    reason: str = ""


def is_bundle(filename: str, head: bytes) -> bool:
    """Whether an upload is an archive of files, by its name and its first 512 bytes; Office documents are none."""
    if extension_of(filename) not in ARCHIVE_ENDINGS:
        return False
    return is_archive(head) or head.startswith(ZIP_SIGNATURE)


def unpack(data: bytes, limits: ParsingLimits) -> Iterator[Entry]:
    """Every file of the archive, in its order; at most one of them is in memory here.

    Raises: UnsupportedDocument, with a reason for people, when it is damaged or unpacking it crashed or took too long;
    PayloadTooLarge when it is over a limit. What was given until then was good.
    """
    with TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        process = start_child(unpacking_child.__name__, limits, file)
        try:
            yield from _Frames(process, limits).entries()
        finally:
            end_child(process)


class _Frames:
    """Reads what the child writes, within the time allowed."""

    def __init__(self, process: subprocess.Popen[bytes], limits: ParsingLimits) -> None:
        self._stream = cast("IO[bytes]", process.stdout)
        self._limits = limits
        self._waited_seconds = 0.0
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stream, selectors.EVENT_READ)

    def entries(self) -> Iterator[Entry]:
        """The frames as entries."""
        with self._selector:
            while True:
                head = self._head()
                if head.get("end"):
                    return
                if "refused" in head:
                    raise (PayloadTooLarge if head["refused"] == "PayloadTooLarge" else UnsupportedDocument)(str(head["message"]))
                yield Entry(_harmless(str(head["name"])), self._exactly(int(head["bytes"])), str(head["reason"]))

    def _head(self) -> dict[str, Any]:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise UnsupportedDocument(_DIED)
            self._more()
        try:
            head = loads(self._take(end + 1))
        except MalformedInput as error:
            raise UnsupportedDocument(_DIED) from error
        if not isinstance(head, dict):
            raise UnsupportedDocument(_DIED)
        return head

    def _exactly(self, count: int) -> bytes:
        if count > self._limits.file_bytes:
            raise UnsupportedDocument(_DIED)
        while len(self._buffer) < count:
            self._more()
        return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _more(self) -> None:
        """Wait for the child. What the caller does between two entries is not the archive's time."""
        started = time.monotonic()
        ready = self._selector.select(max(0.0, self._limits.wall_seconds - self._waited_seconds))
        self._waited_seconds += time.monotonic() - started
        if not ready:
            raise UnsupportedDocument(f"unpacking the archive took longer than {self._limits.wall_seconds:g} seconds")
        piece = self._stream.read(_PIECE_BYTES)
        if not piece:
            raise UnsupportedDocument(_DIED)
        self._buffer += piece


def _harmless(name: str) -> str:
    """A path with slashes, without what would lead upwards or to a root: it is shown and is a source, never opened."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    text = "/".join("".join(c if c.isprintable() else "_" for c in part) for part in parts)
    return text.encode("utf-8", errors="replace").decode("utf-8") or "unnamed"
