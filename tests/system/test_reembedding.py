"""A knowledge base moves to another model and back while clients search and write through two processes, and while runners are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agenthub.rag.embedding.weights import MODEL
from tests.servers.agenthub_server import ROOT, AgentHubServer, Remote
from tests.servers.openai_server import openai_server
from tests.system.reembed_load import FIXED, Load

OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}


def is_in(remote: Remote, path: str, *states: str) -> bool:
    """Whether the move that was asked for is that far. A job that failed would never be."""
    found = remote.get(f"{path}/reembedding")
    assert not found["stalled"], remote.get(f"/api/jobs/{found['job_id']}")
    return found["state"] in states


def moved_under_load(folder: Path, database: dict[str, str], rounds: int, writers: int, pace: int) -> dict[str, Any]:
    """Move to the endpoint's model and roll back, so often, while clients are at work; how it went."""
    with openai_server(dimension=24) as endpoint:
        settings = {"EMBEDDING_BASE_URL": endpoint.url, "EMBEDDING_MODEL": "remote", "EMBEDDING_API_KEY": "key", **OWNER, **database}
        with AgentHubServer(folder, AGENTHUB_RATE_LIMITS="off", WEB_CONCURRENCY="2", **settings) as server:
            remote = Remote(server.url).login(*OWNER.values())
            made = remote.post("/api/knowledge-bases", {"name": "under way", "embedding_model": MODEL}, 201)
            path = f"/api/knowledge-bases/{made['id']}"
            remote.post(f"{path}/chunks", {"items": [{"id": f"fixed-{n}", "text": text} for n, text in enumerate(FIXED)]})
            load = Load(server.url, remote.token, path)
            load.begin(writers, searchers=2)
            try:
                for number in range(rounds):
                    move(load, remote, path, pace if number % 2 else None)
                    roll_back(load, remote, path)
            finally:
                load.end()
            assert load.failures == []
            assert load.differences() == []
            assert remote.post(f"{path}/verify", {})["intact"]
            return {**load.answers, "slowest_seconds": load.slowest_seconds, "generations": remote.get(path)["generation"]}


def move(load: Load, remote: Remote, path: str, pace: int | None) -> None:
    """To the endpoint's model: slowly and at once, or in steps with answers between them."""
    body = {"embedding_model": "remote", "auto_switch": pace is not None, "chunks_per_second": pace}
    remote.post(f"{path}/reembedding", body, 202)
    if pace is None:
        load.wait_for(lambda: is_in(remote, path, "ready"))
        served(load)
        remote.post(f"{path}/reembedding/switch", None, 202)
    load.wait_for(lambda: is_in(remote, path, "switched"))
    assert remote.get(path)["embedding_model"] == "remote"
    served(load)


def roll_back(load: Load, remote: Remote, path: str) -> None:
    remote.post(f"{path}/reembedding/rollback", None, 202)
    load.wait_for(lambda: is_in(remote, path, "switched"))
    assert remote.get(path)["embedding_model"] == MODEL
    served(load)


def served(load: Load) -> None:
    """Wait until some more of each kind of request were answered."""
    before = dict(load.answers)
    load.wait_for(lambda: all(load.answers[kind] > before[kind] + (kind != "uploads") * 4 for kind in before))


def test_nobody_notices_a_move_and_the_way_back(tmp_path: Path) -> None:
    figures = moved_under_load(tmp_path, {}, rounds=1, writers=1, pace=100)
    sys.stdout.write(f"{json.dumps(figures)}\n")


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_nobody_notices_many_moves(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = {"DATABASE_URL": str(request.getfixturevalue("migrated_postgresql"))} if backend == "postgresql" else {}
    figures = moved_under_load(tmp_path, database, rounds=10, writers=4, pace=200)
    sys.stdout.write(f"{backend} {json.dumps(figures)}\n")


def walked(steps: str, url: str, folder: Path, seconds: float) -> Any:
    command = [sys.executable, "-m", "tests.system.reembed_walk", steps, url, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode in (0, 1), done.stderr[-4000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert figures["problems"] == [], figures
    return figures


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_a_kill_in_the_midst_of_a_switch_loses_and_mixes_nothing(tmp_path: Path) -> None:
    assert walked("reembed.held", f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, 580)["kills"] == 1


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_kill_at_every_step_of_a_move_loses_and_mixes_nothing(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = str(request.getfixturevalue("migrated_postgresql")) if backend == "postgresql" else f"sqlite:///{tmp_path}/agenthub.sqlite3"
    figures = walked("1", url, tmp_path, 2900)
    assert figures["kills"] > 40, figures
