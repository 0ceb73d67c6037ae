"""A server for the length of a benchmark: a fresh process over folders that vanish with it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from benchmarks.retrieval.client import BenchmarkFailure

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
_INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where it answers, and its owner's credentials."""

    url: str
    email: str
    password: str = field(repr=False)


@contextmanager
def temporary_server() -> Iterator[RunningServer]:
    """A server on a free port of this machine, with the embedded defaults and empty data; gone at the end of the block.

    Raises: BenchmarkFailure with the end of its log when it does not come up within 60 s.
    """
    with tempfile.TemporaryDirectory(prefix="agenthub-benchmark-") as folder:
        log = Path(folder) / "server.log"
        port = _free_port()
        server = RunningServer(f"http://127.0.0.1:{port}", "benchmark@agenthub.invalid", secrets.token_urlsafe(18))
        process = _start(_environment(Path(folder), port, server), log)
        try:
            _await(server.url, process, log)
            yield server
        finally:
            _stop(process)


def _environment(folder: Path, port: int, server: RunningServer) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {
        "PORT": str(port),
        "AGENTHUB_HOST": "127.0.0.1",
        "DATABASE_URL": f"sqlite:///{folder / 'agenthub.sqlite3'}",
        "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
        "AGENTHUB_OWNER_EMAIL": server.email,
        "AGENTHUB_OWNER_PASSWORD": server.password,
        "AGENTHUB_RESULT_CACHE": "off",
        "AGENTHUB_RATE_LIMITS": "off",
    }


def _start(environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{url}/api/health/live", timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise BenchmarkFailure(f"the server did not come up:\n{log.read_text(errors='replace')[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
