"""What every test may ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

pytest_plugins = ["tests.servers.fixtures"]

# How fast the machine is says nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="module")
def migrated_postgresql(postgresql_database: str) -> str:
    """The DATABASE_URL of a database as `make migrate` leaves it, for one test module."""
    environment = os.environ | {"DATABASE_URL": postgresql_database}
    subprocess.run([sys.executable, "-m", "agenthub.cli", "migrate"], cwd=ROOT, env=environment, check=True, timeout=120)
    return postgresql_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of each folder of repository tests the first runs on BigQuery always, the others with the torture.

    A commit takes the emulator a second and more, nearly all of it in the emulator's own catalogue (docs/adr/0021-bigquery.md), so all of
    them would double the time of the suite. The storage contract, which repositories stand on, runs on it in full every time. Tests
    with `many_commits` run in memory always, on databases with the torture.
    """
    seen: set[str] = set()
    for item in items:
        folder = item.nodeid.partition("::")[0].rpartition("/")[0]
        if folder.startswith("tests/repositories/") and "bigquery" in item.name and not item.get_closest_marker("torture"):
            if folder in seen:
                item.add_marker(pytest.mark.torture)
            seen.add(folder)
        if item.get_closest_marker("many_commits") and "memory" not in item.name:
            item.add_marker(pytest.mark.torture)
