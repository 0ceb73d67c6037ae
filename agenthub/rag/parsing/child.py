"""The process a document from outside is parsed in, forked by `fork_server`.

It limits itself before it looks at the document, reads one request, answers and ends. It opens no file and no connection.
"""

from __future__ import annotations

import csv
import os
import resource
import signal
from typing import Final

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.core.json import dumps, loads
from agenthub.rag.parsing.document import to_json
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document

_OPEN_FILES: Final = 64
# Longer than the parent waits: it only counts when the parent was killed and nobody waits any more.
_ORPHAN_SECONDS: Final = 5
READ: Final = b"R"
UNSUPPORTED: Final = b"U"
TOO_LARGE: Final = b"L"


def serve(line: int) -> None:
    """Answer the one request on this descriptor, by a letter for the outcome, then the document or the reason; and end."""
    with os.fdopen(line, "rb", closefd=False) as request:
        limits = ParsingLimits(**loads(request.readline()))
        confine(limits)
        csv.field_size_limit(limits.text_characters)
        header = loads(request.readline())
        data = request.read()
    if len(data) != header["bytes"]:
        os._exit(1)
    _answer(line, *_outcome(data, header["filename"], header["declared_type"], limits))


def confine(limits: ParsingLimits) -> None:
    """No more memory, processor time, files, processes or core dumps than a parser needs, and no way back."""
    for kind, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_AS, limits.memory_bytes),
    ):
        _, most = resource.getrlimit(kind)
        allowed = amount if most == resource.RLIM_INFINITY else min(amount, most)
        # One second more as the hard limit of processor time: the soft one ends the process with a signal that says why.
        hard = allowed + 1 if kind == resource.RLIMIT_CPU and most == resource.RLIM_INFINITY else allowed
        resource.setrlimit(kind, (allowed, hard))
    signal.alarm(int(limits.wall_seconds) + _ORPHAN_SECONDS)


def _outcome(data: bytes, filename: str, declared_type: str | None, limits: ParsingLimits) -> tuple[bytes, bytes]:
    try:
        return READ, to_json(read_document(data, filename, declared_type, limits))
    except UnsupportedDocument as refusal:
        return UNSUPPORTED, dumps(refusal.message)
    except PayloadTooLarge as refusal:
        return TOO_LARGE, dumps(refusal.message)
    except MemoryError:
        return UNSUPPORTED, dumps(f"reading the file needs more than {limits.memory_bytes // 2**20} MiB of memory")


def _answer(line: int, outcome: bytes, body: bytes) -> None:
    """Write and leave at once: tearing down parsers of a hostile document is not worth a crash."""
    view = memoryview(outcome + body)
    while view:
        view = view[os.write(line, view) :]
    os._exit(0)
