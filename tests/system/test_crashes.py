"""kill -9 at every step of every write: nothing acknowledged is lost, nothing half-written is seen, nothing is wedged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


OPERATIONS = {"create": 8, "upload": 60, "chunks": 40, "replace": 60, "delete": 4, "restore": 15, "import": 60}
"""What is walked, and how many steps it has at least."""
_STRIDES = {"upload": 12, "replace": 12, "chunks": 5, "import": 5}
"""Of long walks `make test` takes every fifth step; where another process has to wait for a lease each time, every twelfth."""
IN_MILVUS = 0.6
"""The share of these steps where chunks, vectors and index are no files."""


def walk(operation: str, url: str, folder: Path, stride: int, engine: str = "volume", share: float = 1) -> None:
    command = [sys.executable, "-m", "tests.system.crash_walk", operation, url, str(folder), str(stride), engine]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    sys.stdout.write(f"{figures}\n")
    assert figures["problems"] == []
    assert figures["steps"] >= OPERATIONS[operation] * share, figures


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_leaves_the_old_or_the_new_state(operation: str, tmp_path: Path) -> None:
    walk(operation, f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, stride=_STRIDES.get(operation, 1))


def test_a_kill_leaves_the_old_or_the_new_state_in_milvus(tmp_path: Path) -> None:
    walk("replace", f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, 19, "milvus", IN_MILVUS)


@pytest.mark.torture
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_every_step_leaves_the_old_or_the_new_state_in_milvus(operation: str, tmp_path: Path) -> None:
    walk(operation, f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, 1, "milvus", IN_MILVUS)


@pytest.mark.torture
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_every_step_leaves_the_old_or_the_new_state(
    operation: str, backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/agenthub.sqlite3" if backend == "sqlite" else request.getfixturevalue("migrated_postgresql")
    walk(operation, url, tmp_path, stride=1)
