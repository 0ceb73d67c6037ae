"""HTTP: a plain client for setting up, and wrk, a load generator in C, for what is measured."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.contract import BATCH, BenchmarkFailure, Load, Rate

REQUEST_SECONDS: Final = 600.0
SCRIPT: Final = Path(__file__).with_name("requests.lua")
_REPORT: Final = re.compile(r"^BENCH (\{.*\})$", re.MULTILINE)


@dataclass(slots=True)
class Client:
    """A keep-alive connection to a server of this machine."""

    port: int
    token: str | None = field(default=None, repr=False)
    _connection: http.client.HTTPConnection | None = None

    def send(self, method: str, path: str, body: bytes) -> bytes:
        """The body of a successful answer.

        Raises: BenchmarkFailure with the answer when the server refuses; OSError when it isn't there.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"no answer from port {self.port}: {error}") from error
        if response.status >= 300:
            raise BenchmarkFailure(f"{method} {path}: {response.status} {answer[:500]!r}")
        return answer

    def post(self, path: str, body: Any) -> Any:
        """The parsed answer of a POST of JSON."""
        answer = self.send("POST", path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def send_all(port: int, token: str | None, path: str, bodies: Iterable[bytes], clients: int) -> float:
    """POST all bodies over so many connections, and return the seconds it took without the making of the bodies.

    Raises: BenchmarkFailure when one is refused.
    """
    seconds = 0.0
    connections = [Client(port, token) for _ in range(clients)]
    group: list[bytes] = []
    for body in bodies:
        group.append(body)
        if len(group) == 5 * clients:
            seconds += _send_group(connections, path, group)
            group = []
    seconds += _send_group(connections, path, group) if group else 0.0
    for connection in connections:
        connection.close()
    return seconds


def _send_group(connections: Sequence[Client], path: str, group: Sequence[bytes]) -> float:
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in group:
        waiting.put(body)
    started = time.perf_counter()
    with ThreadPoolExecutor(len(connections)) as pool:
        for done in [pool.submit(_send_waiting, connection, path, waiting) for connection in connections]:
            done.result()
    return time.perf_counter() - started


def _send_waiting(connection: Client, path: str, waiting: queue.SimpleQueue[bytes]) -> None:
    with suppress(queue.Empty):
        while True:
            connection.send("POST", path, waiting.get_nowait())


def wrk_program() -> str:
    """Where wrk is.

    Raises: BenchmarkFailure, saying how to get it, when it isn't there.
    """
    found = shutil.which("wrk")
    if found is None:
        raise BenchmarkFailure("wrk is not installed. As root: apt-get install -y wrk")
    return found


def run_wrk(port: int, token: str | None, path: str, bodies: Path, load: Load, method: str = "POST") -> Rate:
    """The rate wrk gets with these bodies, one a line; a GET sends none of them. A batch counts as its hundred queries.

    Raises: BenchmarkFailure when a request failed, or wrk isn't there.
    """
    command = [
        wrk_program(),
        "-t1",
        f"-c{load.connections}",
        f"-d{load.seconds:.0f}s",
        "--timeout",
        "30s",
        "-s",
        str(SCRIPT),
        f"http://127.0.0.1:{port}",
    ]
    asked = {"BENCH_BODIES": str(bodies), "BENCH_PATH": path, "BENCH_METHOD": method}
    environment = dict(os.environ) | asked | ({"BENCH_TOKEN": token} if token else {})
    before = _children_seconds()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=load.seconds + 90, check=False)
    report = _REPORT.search(ended.stdout)
    if ended.returncode or report is None:
        raise BenchmarkFailure(f"wrk failed: {ended.stdout[-500:]} {ended.stderr[-500:]}")
    return _rate(json.loads(report[1]), load, _children_seconds() - before)


def _rate(seen: dict[str, int], load: Load, generator_seconds: float) -> Rate:
    if seen["failed"] or not seen["requests"]:
        raise BenchmarkFailure(f"{seen['failed']} of {seen['requests']} requests failed under {load.name}")
    seconds = seen["duration_us"] / 1e6
    each = BATCH if load.kind == "batch" else 1
    return Rate(seen["requests"] * each / seconds, seen["p50_us"] / 1000, seen["p99_us"] / 1000, generator_seconds / seconds)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_bodies(path: Path, bodies: Iterable[Any]) -> Path:
    """The bodies as lines of JSON, for wrk."""
    path.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies), encoding="utf-8")
    return path
