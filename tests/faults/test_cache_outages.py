"""T14 and T16 over HTTP: no fault of the cache makes an answer wrong, late or old.

T16's short form is in tests/system/test_shared_cache.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.figures import run_harness


def added_ms(figures: dict[str, int]) -> dict[str, int]:
    return {name.removeprefix("added_p99_ms_"): value for name, value in figures.items() if name.startswith("added_p99_ms_")}


def test_seconds_of_outages_change_no_answer(tmp_path: Path) -> None:
    figures = run_harness("tests.faults.cache_outages", 1, "memcached", tmp_path, "freeze,poison")
    assert set(added_ms(figures)) == {"freeze", "poison"}


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["memcached", "redis"])
def test_every_outage_adds_at_most_50_ms_to_one_request_in_a_hundred(kind: str, tmp_path: Path) -> None:
    figures = run_harness("tests.faults.cache_outages", 30, kind, tmp_path, timeout_seconds=1100)
    added = added_ms(figures)
    assert len(added) == 6
    assert max(added.values()) <= 50, figures


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_10_minutes_of_stamps_are_read_at_once(migrated_postgresql: str, tmp_path: Path) -> None:
    figures = run_harness("tests.faults.stale_reads", 600, migrated_postgresql, tmp_path, timeout_seconds=900)
    assert figures["reads"] >= 5000 and figures["injections"] >= 60
