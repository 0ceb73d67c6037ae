"""AgentHub itself as a server: real gunicorn processes, to be signalled, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class AgentHubServer:
    """One `gunicorn -c config/gunicorn.py wsgi:app` on loopback, in its own process group."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"server-{self.port}.log"
        defaults = {
            "AGENTHUB_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATABASE_URL": f"sqlite:///{folder}/agenthub.sqlite3",
            "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
        }
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.environment = kept | defaults | environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> AgentHubServer:
        """Start and wait until it answers."""
        self._await_port()
        command = [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/api/health/live", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()[-4000:]}")

    def _await_port(self) -> None:
        """Killed workers keep it until the system call they are in has ended, and a client elsewhere may have got it for a moment."""
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self.port))
                except OSError:
                    time.sleep(0.1)
                else:
                    return

    def kill(self) -> None:
        """SIGKILL for the whole process group: nothing gets a chance to tidy up."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._signal(signal.SIGTERM)
        return self._wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            if number is signal.SIGKILL:
                self._wait()

    def _wait(self) -> int:
        return self.process.wait(timeout=30) if self.process else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


class Remote:
    """An HTTP client of a running server that fails on surprises."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.token = token
        self.client = httpx.Client(base_url=url, headers=headers, timeout=120)

    def login(self, email: str, password: str) -> Remote:
        """A client with a session of that user."""
        body = self.call("POST", "/api/auth/login", 200, json={"email": email, "password": password})
        return Remote(str(self.client.base_url), body["session_token"])

    def call(self, method: str, path: str, status: int, **arguments: Any) -> Any:
        """Send a request that must answer with this status; returns the body."""
        response = self.client.request(method, path, **arguments)
        assert response.status_code == status, (method, path, response.status_code, response.text[:2000])
        return response.json() if response.content and "json" in response.headers["content-type"] else response.content

    def get(self, path: str) -> Any:
        return self.call("GET", path, 200)

    def post(self, path: str, json: Any = None, status: int = 200, **arguments: Any) -> Any:
        return self.call("POST", path, status, json=json, **arguments)
