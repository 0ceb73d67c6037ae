"""Worker processes of tests: started over a folder, watched, and told what to do by uploads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from agenthub.core.ids import new_id
from tests.api import Api

ROOT = Path(__file__).parents[2]


class Watch:
    """The most memory that a process and its children had together, resident."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, resident(self.pid) + sum(resident(child) for child in _children(self.pid)))


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in thread.read_text().split()]
        except OSError:
            continue
    return found


@contextmanager
def worker(folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process over the folder's database and volume."""
    defaults = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"sqlite:///{folder}/agenthub.sqlite3",
        "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
    }
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "agenthub.cli", "worker"], cwd=ROOT, env=defaults | environment, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ended(api: Api, job: str, seconds: float = 240) -> Any:
    """The job when it has ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found = api.get(f"/api/jobs/{job}")
        if found["finished_at"] is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"the job did not end: {api.get(f'/api/jobs/{job}')}")


def upload(api: Api, files: dict[str, bytes]) -> str:
    base = api.post("/api/knowledge-bases", {"name": f"mixed {new_id()}"}, 201)["id"]
    sent = [(io.BytesIO(data), name) for name, data in files.items()]
    arguments = {"data": {"files": sent}, "content_type": "multipart/form-data"}
    return str(api.call("POST", f"/api/knowledge-bases/{base}/documents?wait=0", 202, **arguments)["job"]["id"])
