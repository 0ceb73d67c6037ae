"""The Procfile as it stands, by a Procfile runner, the way a platform runs it: release first, then web, on PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.servers.agenthub_server import free_port

ROOT = Path(__file__).resolve().parents[2]
OWNER = {"email": "founder@example.com", "password": "a long enough pass phrase"}


def _environment(folder: Path, database: str, port: int) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "PORT": str(port),
        "DATABASE_URL": database,
        "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
        "AGENTHUB_OWNER_EMAIL": OWNER["email"],
        "AGENTHUB_OWNER_PASSWORD": OWNER["password"],
    }


def _honcho(process: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "honcho", "start", "-f", "Procfile", process],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} never answered:\n{log.read_text()}")


def test_release_and_web_run_as_the_procfile_says(tmp_path: Path, postgresql_database: str) -> None:
    port, log = free_port(), tmp_path / "log"
    environment = _environment(tmp_path, postgresql_database, port) | {"AGENTHUB_JOBS": "off"}
    url = f"http://127.0.0.1:{port}"

    release = _honcho("release", environment, log)
    assert release.wait(120) == 0, log.read_text()
    assert "schema revision" in log.read_text()

    web = _honcho("web", environment, log)
    try:
        _wait_for(f"{url}/api/health/ready", web, log)
        token = httpx.post(f"{url}/api/auth/login", json=OWNER, timeout=30).json()["session_token"]
        me = httpx.get(f"{url}/api/auth/me", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert me.json()["email"] == OWNER["email"]
        refused = httpx.post(f"{url}/api/auth/login", json={"email": "owner@agenthub.com", "password": "password"}, timeout=30)
        assert refused.status_code == 401, "the default owner never exists on PostgreSQL"
        _worker_does_what_web_leaves(url, token, environment, log)
        web.terminate()
        web.wait(30)
    finally:
        if web.poll() is None:
            os.killpg(web.pid, signal.SIGKILL)


def _worker_does_what_web_leaves(url: str, token: str, environment: dict[str, str], log: Path) -> None:
    """An upload waits while nobody works on jobs; the Procfile's worker does it."""
    with httpx.Client(base_url=f"{url}/api", headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        base = client.post("/knowledge-bases", json={"name": "Library"}).json()["id"]
        path = f"/knowledge-bases/{base}/documents"
        accepted = client.post(f"{path}?wait=0.2", json={"title": "a", "text": "Left to the worker."})
        assert (accepted.status_code, accepted.json()["job"]["status"]) == (202, "queued")
        worker = _honcho("worker", environment, log)
        try:
            job = accepted.json()["job"]["id"]
            for _ in range(600):
                if client.get(f"/jobs/{job}").json()["status"] == "succeeded":
                    break
                time.sleep(0.1)
            assert client.get(path).json()["items"][0]["title"] == "a", log.read_text()[-3000:]
            worker.terminate()
            worker.wait(30)
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)


def test_web_refuses_a_database_that_was_not_migrated(tmp_path: Path, postgresql_private: object) -> None:
    database = postgresql_private.url()  # type: ignore[attr-defined]
    log = tmp_path / "log"
    web = _honcho("web", _environment(tmp_path, database, free_port()), log)
    try:
        assert web.wait(60) != 0
        assert "migrate" in log.read_text()
    finally:
        if web.poll() is None:
            os.killpg(web.pid, signal.SIGKILL)
