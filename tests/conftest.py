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
