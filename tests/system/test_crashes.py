"""kill -9 at every step of every write: nothing acknowledged is lost, nothing half-written is seen, nothing is wedged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize(("operation", "least_kills"), [("create", 5), ("upload", 30), ("chunks", 25), ("replace", 30), ("delete", 2)])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_state(
    operation: str, least_kills: int, backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/agenthub.sqlite3" if backend == "sqlite" else request.getfixturevalue("postgresql_url")
    command = [sys.executable, "-m", "tests.system.crash_walk", operation, url, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["problems"] == []
    assert figures["kills"] >= least_kills, figures
