"""Storages of the tests below; the contract suite has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from agenthub.storage.configuration import parse_database_url
from agenthub.storage.contract import ALL, EVERY_TENANT, DeleteWhere, Storage
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables
from tests.contracts.storage.tables import EVERYTHING

Open = Callable[..., Storage]


@pytest.fixture
def open_url() -> Iterator[Open]:
    """Opens storages by URL, with settings changed by keyword, and closes them afterwards."""
    opened: list[Storage] = []

    def open_(url: str, **changes: Any) -> Storage:
        storage = open_storage(replace(parse_database_url(url), **changes), Flask("test"))
        opened.append(storage)
        return storage

    yield open_
    for storage in opened:
        storage.close()


@pytest.fixture
def tables(postgresql_database: str, open_url: Open) -> str:
    """The URL of a PostgreSQL database with empty test tables."""
    storage = open_url(postgresql_database)
    create_tables(storage, EVERYTHING)
    storage.commit([DeleteWhere(table, EVERY_TENANT, ALL) for table in EVERYTHING])
    return postgresql_database
