"""A fresh application with just the services of authentication and logging."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.accounts import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, AGENTHUB_SERVICES="platform.authentication,platform.logging")
