"""Upkeep of real processes: killed at every step, and behind a flood of tiny uploads (RELIABILITY.md T1, T21)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.flood import Flood

ROOT = Path(__file__).parents[2]
OPERATIONS = {"merge": 40, "collect": 40, "erase": 30}
"""What is walked, and how many steps it has at least."""


def walk(operation: str, url: str, folder: Path, stride: int) -> None:
    command = [sys.executable, "-m", "tests.system.upkeep_walk", operation, url, str(folder), str(stride)]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, timeout=1800, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    sys.stdout.write(f"{figures}\n")
    assert figures["problems"] == []
    assert figures["steps"] >= OPERATIONS[operation], figures


@pytest.mark.parametrize("operation", OPERATIONS)
def test_upkeep_that_is_killed_leaves_everything_as_it_was_or_done(operation: str, tmp_path: Path) -> None:
    walk(operation, f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, stride=12)


@pytest.mark.torture
@pytest.mark.parametrize("operation", OPERATIONS)
def test_upkeep_that_is_killed_at_every_step_leaves_everything_as_it_was_or_done(operation: str, tmp_path: Path) -> None:
    walk(operation, f"sqlite:///{tmp_path}/agenthub.sqlite3", tmp_path, stride=1)


def assert_kept(figures: dict[str, Any], documents: int) -> None:
    sys.stdout.write(f"{figures}\n")
    assert figures["documents"] == documents + 20
    assert set(figures["statuses"]) <= {201, 429}
    assert figures["segments"] <= 30
    assert figures["most_segments"] <= 100
    assert figures["written_for_kept"] <= 5


def test_a_flood_of_tiny_uploads_leaves_few_segments(tmp_path: Path) -> None:
    assert_kept(Flood(100, 4, tmp_path).run(), 100)


@pytest.mark.torture
def test_a_long_flood_of_tiny_uploads_leaves_few_segments(tmp_path: Path) -> None:
    assert_kept(Flood(2000, 4, tmp_path).run(), 2000)
