"""Large merges in a process of their own: `python -m agenthub.rag.merging_apart`, started by `rewrite_apart` only.

The memory that a merge takes goes back to the system with its process, and the server's threads don't wait for it. The process takes one
request as a line of JSON from standard input, answers with a line, and ends early if its parent is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final, cast

from agenthub.core.errors import CorruptFile, MalformedInput, MissingFile, VolumeFull, VolumeUnavailable
from agenthub.core.json import dumps, loads
from agenthub.rag.configuration import RagSettings
from agenthub.rag.contract import Segments
from agenthub.rag.manifest import SegmentEntry
from agenthub.rag.merging import Burials, rewrite_segments
from agenthub.rag.on_volume import VolumeSegments
from agenthub.rag.references import FileRef, Tombstone
from agenthub.rag.volume import Volume

APART_CHUNKS: Final = 16_384
"""Merges of fewer chunks take less time than starting a process."""
_SECONDS: Final = 3600.0
"""As long as a writer's intent stands."""
_NICENESS: Final = 10
_PIECE_BYTES: Final = 65_536
_PROJECT_ROOT: Final = Path(__file__).parents[2]
_ERRORS: Final[Mapping[str, type[VolumeUnavailable]]] = {
    kind.__name__: kind for kind in (VolumeUnavailable, VolumeFull, MissingFile, CorruptFile)
}


def rewrite_apart(
    segments: Segments, kb_id: str, inputs: Sequence[SegmentEntry], burials: Burials, *, signature: str, language: str
) -> SegmentEntry | None:
    """As `rewrite_segments`, in a process of its own where that pays: for many chunks on a plain volume.

    Raises: as `rewrite_segments`.
    """
    volume = segments.volume if isinstance(segments, VolumeSegments) else None
    if sum(entry.chunk_count for entry in inputs) < APART_CHUNKS or volume is None or not volume.plain:
        return rewrite_segments(segments, kb_id, inputs, burials, signature=signature, language=language)
    request = {
        "root": str(volume.root.absolute()),
        "floor_bytes": volume.floor_bytes,
        "kb_id": kb_id,
        "inputs": [asdict(entry) for entry in inputs],
        "tombstones": [asdict(one) for one in burials.tombstones],
        "signature": signature,
        "language": language,
    }
    return _answer(_exchange(dumps(request) + b"\n"))


def _exchange(request: bytes) -> bytes:
    """The child's line. Standard input stays open until then: its end tells the child that nobody waits any more."""
    threads = str(min(2, os.cpu_count() or 1))
    environment = {"PYTHONPATH": str(_PROJECT_ROOT), "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-P", "-s", "-m", __name__]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd="/", bufsize=0)  # noqa: S603 - our own
    stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    overdue = threading.Timer(_SECONDS, process.kill)
    overdue.start()
    try:
        with suppress(BrokenPipeError), stdin, stdout:
            pending = memoryview(request)
            while pending:
                pending = pending[stdin.write(pending) :]
            return b"".join(iter(lambda: stdout.read(_PIECE_BYTES), b""))
        return b""
    finally:
        overdue.cancel()
        process.kill()
        process.wait()


def _answer(line: bytes) -> SegmentEntry | None:
    try:
        answer = loads(line)
    except MalformedInput as error:
        raise VolumeUnavailable("the merging process ended without an answer") from error
    if "error" in answer:
        raise _ERRORS.get(answer["error"], VolumeUnavailable)(answer["message"])
    return None if answer["entry"] is None else _entry(answer["entry"])


def _entry(fields: Mapping[str, Any]) -> SegmentEntry:
    return SegmentEntry(**{**fields, "header": FileRef(**fields["header"])})


def main() -> None:
    """Answer one request."""
    os.nice(_NICENESS)
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.buffer.write(dumps(_done(loads(line))) + b"\n")
    sys.stdout.buffer.flush()
    os._exit(0)  # an orderly end needs the lock of standard input, which the thread above holds: Python aborts (seen on 3.11)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _done(request: Mapping[str, Any]) -> dict[str, Any]:
    volume = Volume(Path(request["root"]), free_space_floor_bytes=request["floor_bytes"])
    segments = VolumeSegments(volume, RagSettings())
    inputs = [_entry(fields) for fields in request["inputs"]]
    burials = Burials([Tombstone(**one) for one in request["tombstones"]])
    try:
        entry = rewrite_segments(segments, request["kb_id"], inputs, burials, signature=request["signature"], language=request["language"])
    except VolumeUnavailable as error:
        return {"error": type(error).__name__, "message": error.message}
    return {"entry": None if entry is None else asdict(entry)}


if __name__ == "__main__":
    main()
