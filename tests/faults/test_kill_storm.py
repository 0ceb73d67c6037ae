"""T5: workers killed at random under load; nothing acknowledged is lost, nothing is there twice, no reader goes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.figures import run_harness


@pytest.mark.timeout(280)
def test_20_seconds_of_kills_lose_nothing(migrated_postgresql: str, tmp_path: Path) -> None:
    figures = run_harness("tests.faults.kill_storm", 20, 5, migrated_postgresql, tmp_path)
    assert figures["injections"] >= 5 and figures["ok"] >= 10


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["postgresql", "sqlite"])
def test_1000_kills_lose_nothing(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """About 21 minutes; at most 45."""
    url = request.getfixturevalue("migrated_postgresql") if backend == "postgresql" else f"sqlite:///{tmp_path}/agenthub.sqlite3"
    figures = run_harness("tests.faults.kill_storm", 2700, 6, url, tmp_path, 1000, timeout_seconds=3500)
    assert figures["injections"] >= 1000 and figures["operations"] >= 20_000
    assert figures["answered with one repeat, per 10,000"] >= 9900
    assert figures["answered in the end, per mille"] >= 990
