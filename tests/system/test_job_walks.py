"""Jobs of archives, sites and records, and imports of FAQs, killed at every step: all there in the end, each once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.job_walks import KINDS
from tests.system.workers import ROOT


def walked(kind: str, stride: int, url: str, folder: Path, seconds: float) -> Any:
    command = [sys.executable, "-m", "tests.system.job_walks", kind, str(stride), url, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode in (0, 1), done.stderr[-4000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert figures["problems"] == [], figures
    return figures


def test_some_kills_of_an_archive_lose_and_double_nothing(tmp_path: Path) -> None:
    assert walked("archive", 70, f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, 280)["kills"] >= 1


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_every_step_loses_and_doubles_nothing(kind: str, backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = str(request.getfixturevalue("migrated_postgresql")) if backend == "postgresql" else f"sqlite:///{tmp_path}/agenthub.sqlite3"
    figures = walked(kind, 1, url, tmp_path, 2900)
    assert figures["kills"] > 30, figures
