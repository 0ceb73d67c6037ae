"""Runners killed with SIGKILL at random moments and at every single step: exactly the expected documents, each once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def besiege(folder: Path, files: int, kills: str, database: str | None = None, seconds: float = 250) -> Any:
    url = database or f"sqlite:///{folder}/agenthub.sqlite3"
    command = [sys.executable, "-m", "tests.system.job_kills", str(files), kills, "7", url, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.stdout, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_ten_random_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    figures = besiege(tmp_path, 40, "10")
    assert figures["problems"] == [], figures


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_kill_at_every_step_loses_and_doubles_nothing(tmp_path: Path, backend: str, request: pytest.FixtureRequest) -> None:
    database = str(request.getfixturevalue("migrated_postgresql")) if backend == "postgresql" else None
    figures = besiege(tmp_path, 3, "steps", database, seconds=1700)
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert figures["problems"] == [], figures
    assert figures["kills"] > 20, "the steps of three documents"


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_hundred_kills_while_a_folder_of_five_hundred_files_comes_in(tmp_path: Path) -> None:
    figures = besiege(tmp_path, 500, "100", seconds=1700)
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert (figures["problems"], figures["kills"]) == ([], 100), figures
