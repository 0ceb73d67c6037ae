"""One application with every service, two organizations that must not see each other, and the operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.accounts import RunningClock, World
from tests.security.places import House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder: Path = tmp_path_factory.mktemp("house")
    return House(World(folder, RunningClock()), folder)
