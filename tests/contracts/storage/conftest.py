"""Every test here runs on every backend, all of them real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import ALL, EVERY_TENANT, DeleteWhere, Storage
from agenthub.storage.gate import CHANGES, open_gate, read_gate
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables
from tests.contracts.storage.tables import EVERYTHING

BACKENDS = ("memory", "sqlite", "postgresql", "bigquery")
SHARED = ("sqlite", "postgresql", "bigquery")


def opened(url: str) -> Storage:
    """A storage for the URL, as a process opens it."""
    settings = parse_storage_url(url)
    if settings.bigquery is not None:  # an emulator on a busy machine is slow, and that is no failure
        settings = replace(settings, bigquery=replace(settings.bigquery, timeout_seconds=180.0))
    return open_storage(settings, Flask("contract"))


@pytest.fixture(scope="module", params=BACKENDS)
def backend_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a backend, of this test module's own."""
    if request.param == "bigquery":
        return str(request.getfixturevalue("bigquery_url"))
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_database"))
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/contract.db"
    return "memory://"


@pytest.fixture(scope="module")
def module_storage(backend_url: str) -> Iterator[Storage]:
    storage = opened(backend_url)
    create_tables(storage, EVERYTHING)
    yield storage
    storage.close()


@pytest.fixture
def storage(module_storage: Storage) -> Storage:
    """An empty storage with the tables of `tables.py` and an open gate."""
    gate = read_gate(module_storage)
    if (gate.mode, gate.followed, gate.exported) != ("open", False, ""):
        open_gate(module_storage, gate, followed=False, exported="")
        module_storage.commit([DeleteWhere(CHANGES, EVERY_TENANT, ALL)])
    module_storage.commit([DeleteWhere(table, EVERY_TENANT, ALL) for table in EVERYTHING])
    return module_storage


@pytest.fixture(scope="module", params=SHARED)
def sql_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a backend that several processes can share, with the tables made."""
    if request.param == "bigquery":
        url = str(request.getfixturevalue("bigquery_url"))
    elif request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_database"))
    else:
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('shared'))}/contract.db"
    storage = opened(url)
    create_tables(storage, EVERYTHING)
    storage.close()
    return url


@pytest.fixture
def reopen(backend_url: str) -> Callable[[], Storage]:
    """Opens the same rows anew."""
    return lambda: opened(backend_url)
