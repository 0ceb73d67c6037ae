"""Real servers as fixtures; `tests/conftest.py` lists this module in `pytest_plugins`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers.postgresql import MissingServer, PostgresqlServer, create_database, drop_database


def _start() -> PostgresqlServer:
    try:
        server = PostgresqlServer()
    except MissingServer as error:
        pytest.fail(str(error), pytrace=False)
    server.start()
    return server


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A server for the session: that of TEST_POSTGRES_URL, else a private one. Fails, never skips, when there is none."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    server = _start()
    yield server.url()
    server.destroy()


@pytest.fixture(scope="module")
def postgresql_database(postgresql_url: str) -> Iterator[str]:
    """The DATABASE_URL of an empty database for one test module."""
    url = create_database(postgresql_url)
    yield url
    drop_database(url)


@pytest.fixture(scope="module")
def postgresql_private() -> Iterator[PostgresqlServer]:
    """A server of the test module's own, to stop, freeze and kill."""
    server = _start()
    yield server
    server.destroy()
