"""Exporters killed with SIGKILL at random moments and between all their steps: exactly one row in the warehouse for each event."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agenthub.storage.configuration import BigQuerySettings

ROOT = Path(__file__).parents[2]


def besiege(database: str, dataset: BigQuerySettings, folder: Path, kills: int, seconds: float) -> Any:
    place = (database, dataset.project, dataset.dataset, str(dataset.endpoint), str(folder))
    command = [sys.executable, "-m", "tests.system.warehouse_kills", str(kills), "11", *place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.stdout, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_ten_kills_leave_exactly_one_row_per_event(migrated_postgresql: str, bigquery_dataset: BigQuerySettings, tmp_path: Path) -> None:
    figures = besiege(migrated_postgresql, bigquery_dataset, tmp_path, 10, 280)
    assert (figures["problems"], figures["notes"]) == ([], 0), figures
    assert sum(figures["kills"].values()) == 10


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_hundred_kills_leave_exactly_one_row_per_event(
    migrated_postgresql: str, bigquery_dataset: BigQuerySettings, tmp_path: Path
) -> None:
    figures = besiege(migrated_postgresql, bigquery_dataset, tmp_path, 100, 1700)
    sys.stdout.write(f"{figures}\n")
    assert (figures["problems"], figures["notes"]) == ([], 0), figures
    assert sum(figures["kills"].values()) == 100
