"""Real servers as fixtures; `tests/conftest.py` lists this module in `pytest_plugins`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agenthub.storage.configuration import BigQuerySettings
from tests.servers.bigquery import BigQueryPlace, Emulator, MissingEmulator, drop_dataset
from tests.servers.memcached import Daemon, MemcachedServer, MissingCacheServer
from tests.servers.postgresql import MissingServer, PostgresqlServer, create_database, drop_database
from tests.servers.redis import RedisServer


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


def _emulator() -> Emulator:
    try:
        return Emulator().start()
    except MissingEmulator as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def bigquery_place() -> Iterator[BigQueryPlace]:
    """The service, in the project of TEST_BIGQUERY_PROJECT (`make test-bigquery`); else an emulator. Fails, never skips, without."""
    project = os.environ.get("TEST_BIGQUERY_PROJECT")
    if project:
        yield BigQueryPlace(project, None, os.environ.get("TEST_BIGQUERY_LOCATION", "US"))
        return
    emulator = _emulator()
    yield emulator.place()
    emulator.destroy()


@pytest.fixture(scope="module")
def bigquery_dataset(bigquery_place: BigQueryPlace) -> Iterator[BigQuerySettings]:
    """A dataset for one test module; it is made with its first table."""
    settings = bigquery_place.dataset()
    yield settings
    drop_dataset(settings)


@pytest.fixture(scope="module")
def bigquery_url(bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings) -> str:
    """That dataset as a URL."""
    return bigquery_place.url(bigquery_dataset)


@pytest.fixture
def bigquery_private() -> Iterator[Emulator]:
    """An emulator of the test's own, to freeze and kill."""
    emulator = _emulator()
    yield emulator
    emulator.destroy()


@pytest.fixture(scope="session")
def cache_servers() -> Iterator[dict[str, Daemon]]:
    """Real cache servers by how one logs in. Fails, never skips, when a program is missing."""
    with ExitStack() as stack:
        try:
            servers: dict[str, Daemon] = {
                "memcached": MemcachedServer(),
                "memcached2": MemcachedServer(),
                "memcached3": MemcachedServer(),
                "memcached-ascii": MemcachedServer("ascii"),
                "memcached-sasl": MemcachedServer("sasl"),
                "redis": RedisServer(),
                "redis-password": RedisServer(password=True),
            }
        except MissingCacheServer as error:
            pytest.fail(str(error), pytrace=False)
        for server in servers.values():
            stack.callback(server.destroy)
            server.start()
        yield servers


@pytest.fixture
def memcached() -> Iterator[MemcachedServer]:
    """A memcached of the test's own, to freeze and kill."""
    try:
        server = MemcachedServer()
    except MissingCacheServer as error:
        pytest.fail(str(error), pytrace=False)
    server.start()
    yield server
    server.destroy()
