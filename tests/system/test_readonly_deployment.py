"""What the Dockerfile promises, without a container engine: the same commands, as another user, over files nobody may write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.agenthub_server import free_port

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("agenthub", "config", "app.py", "wsgi.py", "LICENSE")  # the second stage of the Dockerfile
NOBODY = 65534
OWNER = {"email": "founder@example.com", "password": "a long enough pass phrase"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user can reach: pytest's own can't be."""
    folder = Path(tempfile.mkdtemp(prefix="agenthub-image-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
    shutil.rmtree(folder)


@pytest.fixture
def tree(place: Path) -> Path:
    """A copy of what goes into the image, read-only for everybody."""
    tree = place / "srv"
    tree.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(tree)], check=True)
    return tree


def _other_user() -> list[str]:
    """The prefix that runs a command as nobody, or nothing when we are no root ourselves.

    An interpreter in a folder of root's own needs the right to read; never one to write.
    """
    if os.geteuid() != 0:
        return []
    plain = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    reads = [*plain, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    probe = subprocess.run([*plain, sys.executable, "-c", "import flask"], cwd="/", capture_output=True, check=False)
    return plain if probe.returncode == 0 else reads


def _environment(place: Path, port: int) -> dict[str, str]:
    data = place / "data"
    temporary = place / "tmp"
    for folder in (data, temporary):
        folder.mkdir()
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "TMPDIR": str(temporary),
        "PORT": str(port),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DATABASE_URL": f"sqlite:///{data}/agenthub.sqlite3",
        "VECTOR_STORE_BASE_PATH": str(data / "knowledge"),
        "AGENTHUB_OWNER_EMAIL": OWNER["email"],
        "AGENTHUB_OWNER_PASSWORD": OWNER["password"],
    }


def _listing(tree: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in tree.rglob("*"))


def _ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/api/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _use(port: int) -> None:
    """Log in, make a knowledge base, add a document with the embedded model, find it."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {client.post('/api/auth/login', json=OWNER).json()['session_token']}"
        kb = client.post("/api/knowledge-bases", json={"name": "read-only"}).json()["id"]
        text = "The lighthouse keeper counts ships by night."
        added = client.post(f"/api/knowledge-bases/{kb}/documents?wait=60", json={"title": "Lighthouse", "text": text})
        assert added.status_code == 201, added.text
        hits = client.post(f"/api/knowledge-bases/{kb}/search", json={"query": "Who watches vessels after dark?"}).json()["hits"]
        assert hits[0]["text"] == text


def test_the_image_runs_as_another_user_over_a_read_only_tree(place: Path, tree: Path) -> None:
    port, log, before = free_port(), place / "log", _listing(tree)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_other_user(), sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"],
            cwd=tree,
            env=_environment(place, port),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        _ready(port, process, log)
        _use(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert _listing(tree) == before


def test_the_release_command_runs_as_another_user_over_a_read_only_tree(place: Path, tree: Path) -> None:
    answer = subprocess.run(
        [*_other_user(), sys.executable, "-m", "agenthub.cli", "migrate"],
        cwd=tree,
        env=_environment(place, free_port()),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    assert "schema revision" in answer.stdout


def test_the_copy_is_what_the_dockerfile_copies() -> None:
    final = (ROOT / "Dockerfile").read_text().rsplit("FROM ", 1)[1]
    copied = [line.split()[1:-1] for line in final.splitlines() if line.startswith("COPY") and "/opt/agenthub" not in line]
    names = {Path(part).name for line in copied for part in line if not part.startswith("--")}
    assert names == set(COPIED)
