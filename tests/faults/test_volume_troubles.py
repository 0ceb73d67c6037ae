"""T6 and T7: a volume that is full, read-only or gone. Reads go on or are refused, deletes work, health says so, and all recovers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api import Api, make_app

TEXT = "Walruses rest on ice. " * 20


class NoMount(Exception):
    """A tmpfs can't be mounted here; the message says why."""


@contextmanager
def tmpfs(folder: Path, mebibytes: int) -> Iterator[None]:
    """A small file system of its own at `folder`.

    Raises: NoMount.
    """
    folder.mkdir()
    if os.geteuid() != 0:
        raise NoMount("mounting takes root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoMount(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def prepared(folder: Path) -> tuple[Api, str, list[str]]:
    """A knowledge base with three documents; the API, its path and the documents' ids."""
    api = Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on")).login()
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'troubled'}, 201)['id']}"
    ids = [api.post(f"{base}/documents", {"title": str(n), "text": f"{TEXT} {n}"}, 201)["id"] for n in range(3)]
    return api, base, ids


def hits(api: Api, base: str) -> int:
    return len(api.post(f"{base}/search", {"query": "walruses", "mode": "keyword", "top_k": 100})["hits"])


def test_on_a_full_volume_reads_and_deletes_work_and_writes_resume(tmp_path: Path) -> None:
    try:
        with tmpfs(tmp_path / "knowledge", 16):
            api, base, ids = prepared(tmp_path)
            before = hits(api, base)
            filler = tmp_path / "knowledge" / "filler"
            filler.write_bytes(b"x" * (16 * 1024 * 1024 - sum(path.stat().st_size for path in filler.parent.rglob("*")) - 400_000))
            files = {path for path in filler.parent.rglob("*") if path.is_file()}
            api.refused("POST", f"{base}/documents", 507, "volume_full", json={"title": "no", "text": TEXT * 400})
            assert {path for path in filler.parent.rglob("*") if path.is_file()} == files, "a refused write leaked files"
            api.app.extensions["agenthub"].knowledge.close()
            assert hits(api, base) == before
            api.call("DELETE", f"{base}/documents/{ids[0]}", 200)
            assert hits(api, base) < before
            filler.unlink()
            api.post(f"{base}/documents", {"title": "yes", "text": f"{TEXT} again"}, 201)
            assert api.post(f"{base}/verify", {})["intact"]
    except NoMount as error:
        sys.stdout.write(f"no full volume: {error}; tests/rag/test_engine_faults.py fails writes with ENOSPC instead\n")


def test_a_read_only_volume_is_reported_and_read(tmp_path: Path) -> None:
    try:
        with tmpfs(tmp_path / "knowledge", 16):
            api, base, ids = prepared(tmp_path)
            before = hits(api, base)
            subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "knowledge")], check=True)
            fresh = again(tmp_path, api)
            assert hits(fresh, base) == before
            assert fresh.send("GET", "/api/health/ready").status_code == 503
            fresh.refused("POST", f"{base}/documents", 503, "volume_unavailable", json={"title": "no", "text": TEXT})
            fresh.call("DELETE", f"{base}/documents/{ids[0]}", 200)
            subprocess.run(["mount", "-o", "remount,rw", str(tmp_path / "knowledge")], check=True)
            fresh = again(tmp_path, api)
            assert fresh.send("GET", "/api/health/ready").status_code == 200
            fresh.post(f"{base}/documents", {"title": "yes", "text": TEXT}, 201)
    except NoMount as error:
        sys.stdout.write(f"no read-only volume: {error}\n")


def test_a_volume_that_is_gone_is_refused_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.repositories.knowledge.snapshots._NEGATIVE_CACHE_SECONDS", 0.0)
    api, base, _ = prepared(tmp_path)
    before = hits(api, base)
    (tmp_path / "knowledge").rename(tmp_path / "away")
    (tmp_path / "knowledge").write_text("a file where the volume was")
    assert hits(api, base) == before, "what is in memory goes on being served"
    fresh = again(tmp_path, api)
    assert fresh.send("GET", "/api/health/ready").status_code == 503
    fresh.refused("POST", f"{base}/search", 503, "volume_unavailable", json={"query": "walruses", "mode": "keyword"})
    (tmp_path / "knowledge").unlink()
    (tmp_path / "away").rename(tmp_path / "knowledge")
    assert hits(fresh, base) == before
    assert again(tmp_path, api).send("GET", "/api/health/ready").status_code == 200


def again(folder: Path, api: Api) -> Api:
    """The application as a process that starts now."""
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on"), api.token)


def test_restoring_a_backup_of_the_rows_finds_its_files(tmp_path: Path) -> None:
    """T28: rows are backed up, more is committed, the rows are restored; the files of that generation are still there."""
    api, base, ids = prepared(tmp_path)
    before = hits(api, base)
    subprocess.run(
        [sys.executable, "-c", BACKUP, str(tmp_path / "agenthub.sqlite3"), str(tmp_path / "backup.sqlite3")], check=True, timeout=60
    )
    api.call("DELETE", f"{base}/documents/{ids[0]}", 200)
    for number in range(10):
        api.post(f"{base}/documents", {"title": f"later {number}", "text": f"{TEXT} later {number}"}, 201)
    api.app.extensions["agenthub"].close()
    for name in ("agenthub.sqlite3", "agenthub.sqlite3-wal", "agenthub.sqlite3-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "backup.sqlite3").rename(tmp_path / "agenthub.sqlite3")
    restored = again(tmp_path, api)
    assert hits(restored, base) == before
    assert restored.post(f"{base}/verify", {})["intact"]
    restored.post(f"{base}/documents", {"title": "on", "text": TEXT}, 201)
    assert restored.post(f"{base}/verify", {})["intact"]


BACKUP = "import sqlite3, sys; a, b = (sqlite3.connect(path) for path in sys.argv[1:]); a.backup(b); b.close(); a.close()"
