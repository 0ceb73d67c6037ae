"""What every test may ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture(scope="module")
def migrated_postgresql(postgresql_database: str) -> str:
    """The DATABASE_URL of a database as `make migrate` leaves it, for one test module."""
    environment = os.environ | {"DATABASE_URL": postgresql_database}
    subprocess.run([sys.executable, "-m", "agenthub.cli", "migrate"], cwd=ROOT, env=environment, check=True, timeout=120)
    return postgresql_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repositories on BigQuery run with the torture: each row costs its emulator a second, and two run side by side here.

    The storage contract, which they stand on, runs on it in every test.
    """
    for item in items:
        if "tests/repositories/" in item.nodeid and "bigquery" in item.name:
            item.add_marker(pytest.mark.torture)
