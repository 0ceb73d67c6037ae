"""T28: backup, more commits, collecting, restore: logical and with pg_dump. No knowledge base is unreadable afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api import OWNER, Api, make_app
from tests.servers.postgresql import create_database, find_binaries, libpq_url

ROOT = Path(__file__).parents[1]
SERVICES = "knowledge.*,platform.authentication"


def run(url: str, volume: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {"DATABASE_URL": url, "VECTOR_STORE_BASE_PATH": str(volume), "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on"}
    command = [sys.executable, "-m", "agenthub.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=120)


def done(finished: subprocess.CompletedProcess[str]) -> str:
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def opened(folder: Path, url: str) -> Api:
    return Api(make_app(folder, url, AGENTHUB_SERVICES=SERVICES, AGENTHUB_MAINTENANCE="off")).login(**OWNER)


def write(api: Api, key: str, *texts: str) -> None:
    for text in texts:
        api.post(f"/api/knowledge-bases/{key}/chunks", {"items": [{"id": text, "text": text, "vector": [1, len(text), 2, 3]}]})


def collected(url: str, volume: Path) -> None:
    """Merge and collect without any grace: whatever nothing holds is gone."""
    for _ in range(2):
        done(run(url, volume, "kb", "maintain", "--grace-seconds", "0", "--orphan-grace-seconds", "0"))


def base_with_history(api: Api) -> str:
    body: dict[str, Any] = {"name": "Zoo", "embedding_model": None, "dimension": 4}
    key = str(api.post("/api/knowledge-bases", body, 201)["id"])
    write(api, key, "one", "two", "three")
    api.call("PATCH", f"/api/knowledge-bases/{key}", 200, json={"retained_generations": 0, "retained_seconds": 0})
    return key


@pytest.mark.parametrize("how", ["logical", pytest.param("pg_dump", marks=pytest.mark.torture)])
def test_a_restored_backup_reads_every_knowledge_base(tmp_path: Path, postgresql_url: str, how: str) -> None:
    volume, file = tmp_path / "knowledge", tmp_path / "rows.backup"
    url, restored = create_database(postgresql_url), create_database(postgresql_url)
    done(run(url, volume, "migrate"))
    api = opened(tmp_path, url)
    key = base_with_history(api)
    said = done(run(url, volume, "storage", "backup", str(file)))
    assert "1 knowledge bases are kept" in said
    binaries = find_binaries()
    if how == "pg_dump":
        subprocess.run([binaries / "pg_dump", "-Fc", "-f", tmp_path / "dump", libpq_url(url)], check=True, timeout=60)
    api.post(f"/api/knowledge-bases/{key}/chunks/delete", {"ids": ["one", "two"]})
    write(api, key, *(f"later {number}" for number in range(12)))
    collected(url, volume)
    if how == "logical":
        done(run(restored, volume, "migrate"))
        done(run(restored, volume, "storage", "restore", str(file)))
        assert run(restored, volume, "storage", "restore", str(file)).returncode == 1, "it is no longer empty"
    else:
        subprocess.run([binaries / "pg_restore", "--no-owner", "-d", libpq_url(restored), tmp_path / "dump"], check=True, timeout=60)
        done(run(restored, volume, "storage", "restored"))
    other = opened(tmp_path, restored)
    assert "1 knowledge bases, 0 damaged" in done(run(restored, volume, "kb", "verify"))
    for chunk, status in (("one", 200), ("two", 200), ("three", 200), ("later 0", 404)):
        other.get(f"/api/knowledge-bases/{key}/chunks/{chunk}", status)
    collected(restored, volume)  # what can't be restored any more doesn't keep collecting from its work
    write(other, key, "new")
    assert "1 knowledge bases, 0 damaged" in done(run(restored, volume, "kb", "verify"))
    shutil.rmtree(volume / key)
    assert run(restored, volume, "storage", "restored").returncode == 3


def test_a_deployment_is_copied_by_command(tmp_path: Path, postgresql_url: str) -> None:
    volume, here = tmp_path / "knowledge", f"sqlite:///{tmp_path}/rows.db"
    there, again = create_database(postgresql_url), f"sqlite:///{tmp_path}/again.db"
    api = opened(tmp_path, here)
    write(api, base_with_history(api), "four")
    contents = []
    for source, target in ((here, there), (there, again)):
        said = done(run(here, volume, "storage", "copy", "--from", source, "--to", target))
        contents.append(said.splitlines()[-1])
    assert contents[0] == contents[1]
    assert contents[0].startswith("content ")
    secret = run(here, volume, "storage", "copy", "--from", here, "--to", "postgresql://me:hush-hush@127.0.0.1:1/none")
    assert secret.returncode == 1
    assert "hush-hush" not in secret.stdout + secret.stderr
    assert "paused until" in done(run(here, volume, "storage", "pause", "--seconds", "60"))
    api.refused("POST", "/api/knowledge-bases", 503, "writes_paused", json={"name": "no", "embedding_model": None, "dimension": 4})
    assert "writes are taken" in done(run(here, volume, "storage", "resume"))
    api.post("/api/knowledge-bases", {"name": "yes", "embedding_model": None, "dimension": 4}, 201)
