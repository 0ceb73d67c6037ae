"""`kb export` and `kb import`, as a shell runs them, from one database and volume to another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.api import OWNER, Api, make_app

ROOT = Path(__file__).parents[1]
SERVICES = "knowledge.*,platform.authentication"


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "DATABASE_URL": f"sqlite:///{home}/agenthub.sqlite3",
        "VECTOR_STORE_BASE_PATH": str(home / "knowledge"),
        "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on",
    }
    command = [sys.executable, "-m", "agenthub.cli", "kb", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False)


def opened(home: Path) -> Api:
    return Api(make_app(home, f"sqlite:///{home}/agenthub.sqlite3", AGENTHUB_SERVICES=SERVICES)).login(**OWNER)


def test_a_knowledge_base_moves_by_file(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "zoo.tar"
    here.mkdir()
    there.mkdir()
    api, other = opened(here), opened(there)
    key = api.post("/api/knowledge-bases", {"name": "Zoo"}, 201)["id"]
    api.post(f"/api/knowledge-bases/{key}/documents", {"title": "a", "text": "Otters hold hands."}, 201)
    expected = api.get(f"/api/knowledge-bases/{key}/generations/2/content")["content_sha256"]
    exported = run(here, "export", key, str(file))
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.rstrip().endswith(expected)
    assert run(here, "export", key, str(file)).returncode == 1, "a file that exists is not written over"
    assert run(here, "export", key, str(tmp_path / "no.tar"), "--generation", "9").returncode == 1
    assert not (tmp_path / "no.tar").exists()
    organization = other.get("/api/auth/me")["organization_id"]
    imported = run(there, "import", str(file), "--organization", organization, "--name", "Moved")
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.rstrip().endswith(expected)
    copy = other.get("/api/knowledge-bases?name=moved")["items"][0]["id"]
    assert imported.stdout.startswith(copy)
    assert other.post(f"/api/knowledge-bases/{copy}/search", {"query": "otters"})["hits"][0]["text"] == "Otters hold hands."
    again = run(there, "import", str(file), "--organization", organization, "--name", "Moved")
    assert (again.returncode, again.stdout) == (1, "")
