"""The operator's commands for knowledge bases, as a shell runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api import Api, make_app

ROOT = Path(__file__).parents[1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on",
        "DATABASE_URL": f"sqlite:///{folder}/agenthub.sqlite3",
        "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
    }
    command = [sys.executable, "-m", "agenthub.cli", "kb", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def base_id(tmp_path: Path) -> str:
    api = Api(make_app(tmp_path, f"sqlite:///{tmp_path}/agenthub.sqlite3", AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on")).login()
    made: str = api.post("/api/knowledge-bases", {"name": "kept"}, 201)["id"]
    for text in ("one", "two"):
        api.post(f"/api/knowledge-bases/{made}/documents", {"title": text, "text": f"This is text {text}."}, 201)
    return made


def test_verify_repairs_and_falls_back_as_far_as_it_is_told(tmp_path: Path, base_id: str) -> None:
    assert run(tmp_path, "verify").returncode == 0
    segments = tmp_path / "knowledge" / base_id / "segments"
    for index in segments.glob("*/keywords.safetensors"):
        index.write_bytes(b"damaged")
    found = run(tmp_path, "verify", base_id)
    assert found.returncode == 3 and "derived" in found.stdout, found.stderr
    repaired = run(tmp_path, "verify", "--repair")
    assert repaired.returncode == 0 and repaired.stdout.count("was written anew") == 2, repaired.stdout + repaired.stderr
    newest = max(segments.glob("*/chunks.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(b"damaged")
    quarantined = run(tmp_path, "verify", "--repair")
    assert quarantined.returncode == 3 and "quarantine" in quarantined.stdout, quarantined.stderr
    fallen = run(tmp_path, "verify", "--repair", "--fall-back")
    assert fallen.returncode == 0 and "has the contents of generation" in fallen.stdout, fallen.stdout + fallen.stderr
    assert run(tmp_path, "verify").returncode == 0
    assert newest.read_bytes() == b"damaged"


def test_scrub_looks_at_one_segment(tmp_path: Path, base_id: str) -> None:
    first, second = run(tmp_path, "scrub"), run(tmp_path, "scrub")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert first.stdout.endswith(": whole\n") and first.stdout != second.stdout
    for chunks in (tmp_path / "knowledge" / base_id / "segments").glob("*/chunks.jsonl"):
        chunks.write_bytes(b"damaged")
    damaged = run(tmp_path, "scrub", base_id)
    assert damaged.returncode == 3 and damaged.stdout.endswith(": quarantined\n")


def test_mistakes_are_told(tmp_path: Path, base_id: str) -> None:
    assert run(tmp_path, "verify", "--fall-back").returncode == 2
    missing = run(tmp_path, "verify", "01m83hj1a7n9g00hctz34zejbk")
    assert missing.returncode == 1 and "no knowledge base" in missing.stderr
