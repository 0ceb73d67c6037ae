"""Parsing of documents from outside: in a child process with limits, or here where that is provably harmless."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import IO, Final

from agenthub.core.errors import MalformedInput, ParserDied, PayloadTooLarge, UnsupportedDocument
from agenthub.core.json import dumps, loads
from agenthub.rag.parsing import child
from agenthub.rag.parsing.document import ParsedDocument, from_json
from agenthub.rag.parsing.forking import PROJECT_ROOT, Forked, Forking, ServerGone, busy
from agenthub.rag.parsing.kinds import Kind, detect_kind
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document

_log = logging.getLogger(__name__)

# Read in this process up to this size: their parsers are Python, orjson and the csv module, linear in their input, do not
# recurse deeper than 64 levels, and make of 128 KiB at most some 10 MB. 131,072 characters is also csv's own field limit, so
# that no process-wide setting is needed. HTML, Markdown (quadratic corners), PDF and Office files always get a child.
IN_PROCESS_BYTES: Final = 128 * 1024
_IN_PROCESS_KINDS: Final = frozenset({Kind.PLAIN, Kind.DELIMITED, Kind.JSON, Kind.JSON_LINES})
_PIPE_BYTES: Final = 64 * 1024
_END_SECONDS: Final = 1.0
_SERVERS: Final = 2
"""How often a child is asked for where the server that forks it is killed meanwhile."""
_LOOK_SECONDS: Final = 0.2
"""How often it is asked whether the caller still wants the document."""

_FORKING: Final = Forking()


class ReadingAbandoned(Exception):
    """The caller no longer wants the document: its process has to end."""


def _never() -> bool:
    return False


def parse_safely(
    data: bytes, filename: str, declared_type: str | None, limits: ParsingLimits, abandoned: Callable[[], bool] = _never
) -> ParsedDocument:
    """The document in these bytes; nothing it contains can harm or hold up this process.

    Takes at most `limits.wall_seconds`, and while it waits one thread and about `limits.output_bytes` here. Callers bound how
    many documents are parsed at once: each may use `limits.memory_bytes`.

    Raises: UnsupportedDocument, with a reason for people, when it can't be read; ParserDied, which is one, when reading it
    crashed or took too long. PayloadTooLarge when it is over a limit. RateLimited when the machine can start no process now.
    ReadingAbandoned soon after `abandoned` says so.
    """
    if len(data) > limits.file_bytes:
        raise PayloadTooLarge(f"the file is larger than {limits.file_bytes:,} bytes")
    if read_here(data, filename, declared_type):
        return read_document(data, filename, declared_type, limits)
    return _parse_in_child(data, filename, declared_type, limits, abandoned)


def read_here(data: bytes, filename: str, declared_type: str | None) -> bool:
    """Whether `parse_safely` needs no child process for this document.

    Raises: UnsupportedDocument when it is of no kind that can be read.
    """
    return detect_kind(data, filename, declared_type) in _IN_PROCESS_KINDS and len(data) <= IN_PROCESS_BYTES


def _parse_in_child(
    data: bytes, filename: str, declared_type: str | None, limits: ParsingLimits, abandoned: Callable[[], bool]
) -> ParsedDocument:
    kind = detect_kind(data, filename, declared_type)
    header = {"filename": _harmless(filename), "declared_type": _harmless(declared_type or ""), "bytes": len(data)}
    head = dumps(asdict(limits)) + b"\n" + dumps(header) + b"\n"
    for _ in range(_SERVERS):
        forked = _FORKING.start(kind)
        try:
            answer = _exchange(forked.line, [memoryview(head), memoryview(data)], limits, abandoned)
            return _document(answer, forked, limits)
        except ServerGone:
            _log.warning("the server that forks parsers was killed")
        finally:
            forked.end(_END_SECONDS)
    raise busy()


def _harmless(text: str) -> str:
    """Text that is valid UTF-8: a file name may hold lone surrogates."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def start_child(module: str, limits: ParsingLimits, stdin: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """A child with its own process group, an environment of two variables, and no descriptor of ours but its input and output.

    Raises: RateLimited when the machine can start no process now.
    """
    # -P: the working directory is no source of code; -s: nor the user's home; -B: it may write no file.
    command = [sys.executable, "-P", "-s", "-B", "-m", module, dumps(asdict(limits)).decode()]
    environment = {"PYTHONPATH": str(PROJECT_ROOT), "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.Popen(  # noqa: S603 - a command of our own; the document goes in by standard input
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            close_fds=True,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise busy() from error


def _exchange(line: socket.socket, pending: list[memoryview], limits: ParsingLimits, abandoned: Callable[[], bool]) -> bytes:
    """Write the request and read the answer side by side, within the time and the size allowed."""
    deadline = time.monotonic() + limits.wall_seconds
    answer = bytearray()
    line.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while (remaining := deadline - time.monotonic()) > 0:
            if abandoned():
                raise ReadingAbandoned
            for _, events in selector.select(min(remaining, _LOOK_SECONDS)):
                if events & selectors.EVENT_WRITE and not _write(line, pending):
                    selector.modify(line, selectors.EVENT_READ)
                if events & selectors.EVENT_READ and not _read(line, answer, limits):
                    return bytes(answer)
    raise ParserDied(f"reading the file took longer than {limits.wall_seconds:g} seconds")


def _write(line: socket.socket, pending: list[memoryview]) -> bool:
    """Write what the line takes; False when all is written or the child no longer listens."""
    try:
        written = line.send(pending[0][:_PIPE_BYTES])
    except (BrokenPipeError, ConnectionResetError):
        return False
    except BlockingIOError:
        return True
    pending[0] = pending[0][written:]
    if not pending[0]:
        pending.pop(0)
    if not pending:
        line.shutdown(socket.SHUT_WR)
    return bool(pending)


def _read(line: socket.socket, answer: bytearray, limits: ParsingLimits) -> bool:
    """Read what is there; False at the end."""
    try:
        part = line.recv(_PIPE_BYTES)
    except BlockingIOError:
        return True
    except ConnectionResetError:  # it ended with a part of the request unread
        return False
    answer += part
    if len(answer) > limits.output_bytes:
        raise PayloadTooLarge(f"the text of the file is larger than {limits.output_bytes:,} bytes")
    return bool(part)


def _document(answer: bytes, forked: Forked, limits: ParsingLimits) -> ParsedDocument:
    outcome, body = answer[:1], answer[1:]
    try:
        if outcome == child.READ:
            return from_json(body)
        if outcome in (child.UNSUPPORTED, child.TOO_LARGE):
            message = str(loads(body))
            raise UnsupportedDocument(message) if outcome == child.UNSUPPORTED else PayloadTooLarge(message)
    except (MalformedInput, KeyError, TypeError, ValueError) as error:
        raise ParserDied("reading the file failed half-way: it is damaged or made to do harm") from error
    raise _death(forked, limits)


def _death(forked: Forked, limits: ParsingLimits) -> UnsupportedDocument:
    """Why the child ended without an answer, in words for the document's owner."""
    code = forked.exit_code(_END_SECONDS)
    _log.warning("parsing process ended without an answer", extra={"exit_code": code})
    if code in (-signal.SIGXCPU, -signal.SIGALRM):  # certain: it doesn't depend on how busy the machine is
        return UnsupportedDocument(f"reading the file needs more than {limits.cpu_seconds} seconds of processor time")
    return ParserDied("the parser crashed on the file, or needed too much memory: it is damaged or made to do harm")


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the child's group and reap the child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            _close(stream)
    process.wait()


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        stream.close()
