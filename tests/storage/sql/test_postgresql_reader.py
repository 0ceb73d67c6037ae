"""The quick way of reads that every request makes: planned once on the server, sees every commit, and is never the last word."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.contract import Insert, Update
from agenthub.storage.sql import postgresql_reader
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.postgresql_reader import PostgresqlReader
from tests.contracts.storage.tables import THINGS, A, thing
from tests.servers.postgresql import execute, libpq_url

Open = Callable[..., SqlStorage]
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def storage(tables: str, open_url: Open) -> SqlStorage:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("a"))])
    return storage


def reader_of(storage: SqlStorage) -> PostgresqlReader:
    assert isinstance(storage._reader, PostgresqlReader)
    return storage._reader


def own(storage: SqlStorage, statement: str) -> list[Any]:
    """Asked on the connection that the next read will use."""
    with reader_of(storage)._idle[-1].driver.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def engine_only(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the engine reads from now on."""
    asked: list[int] = []
    read = storage.read

    def counted(work: Callable[[Any], Any]) -> Any:
        asked.append(1)
        return read(work)

    monkeypatch.setattr(storage, "read", counted)
    return asked


def test_a_statement_is_planned_once(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = engine_only(storage, monkeypatch)
    for _ in range(20):
        assert storage.get(THINGS, A, "a") == thing("a")
        assert storage.get(THINGS, A, "b") is None
    assert asked == []
    ((name, generic, custom),) = own(storage, "SELECT name, generic_plans, custom_plans FROM pg_prepared_statements")
    assert name.startswith("agenthub_") and (generic, custom) == (35, 5)


def test_every_read_sees_what_was_committed_before(tables: str, storage: SqlStorage, open_url: Open) -> None:
    other = open_url(tables)
    for version in range(2, 30):
        other.commit([Update(THINGS, A, "a", {})])
        assert (storage.get(THINGS, A, "a") or {})["version"] == version


def test_it_takes_few_connections_and_gives_them_back(storage: SqlStorage) -> None:
    start = threading.Barrier(16)

    def read(_: int) -> Any:
        start.wait(60)
        return [storage.get(THINGS, A, "a") for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        assert all(row == thing("a") for rows in pool.map(read, range(16)) for row in rows)
    assert 1 <= len(reader_of(storage)._idle) <= postgresql_reader.MOST_CONNECTIONS
    drivers = [connection.driver for connection in reader_of(storage)._idle]
    storage.close()
    assert reader_of(storage)._idle == []
    assert all(driver.closed for driver in drivers)
    assert storage.get(THINGS, A, "a") == thing("a")


def test_dead_connections_are_replaced_and_nobody_notices(tables: str, storage: SqlStorage) -> None:
    for _ in range(3):
        assert storage.get(THINGS, A, "a") == thing("a")
        execute(tables, TERMINATE)
    assert storage.get(THINGS, A, "a") == thing("a")


def test_old_connections_are_replaced(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_reader, "_OLD_SECONDS", 0)
    storage.close()
    assert storage.get(THINGS, A, "a") == thing("a")
    assert reader_of(storage)._idle == []


def test_a_slow_read_is_left_to_the_engine(storage: SqlStorage, tables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_reader, "QUICK_SECONDS", 0.2)
    assert storage.get(THINGS, A, "a")
    asked = engine_only(storage, monkeypatch)
    locking = psycopg2.connect(libpq_url(tables))
    locking.cursor().execute(f"LOCK TABLE {THINGS.name} IN ACCESS EXCLUSIVE MODE")
    released = threading.Timer(1.0, locking.rollback)
    released.start()
    assert storage.get(THINGS, A, "a") == thing("a")
    assert asked == [1]
    released.join()
    locking.close()


def test_behind_a_pool_of_sessions_it_steps_aside(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PgBouncer by transactions does: the statement was prepared in another session."""
    assert storage.get(THINGS, A, "a")
    own(storage, "DEALLOCATE ALL; SELECT 1")
    asked = engine_only(storage, monkeypatch)
    for _ in range(3):
        assert storage.get(THINGS, A, "a") == thing("a")
    assert asked == [1, 1, 1]
    assert reader_of(storage)._idle == []


def test_a_forked_child_reads_on_connections_of_its_own(storage: SqlStorage) -> None:
    assert storage.get(THINGS, A, "a")
    child = os.fork()
    if child == 0:
        os._exit(0 if storage.get(THINGS, A, "a") else 1)
    assert os.waitpid(child, 0)[1] == 0
    storage.commit([Update(THINGS, A, "a", {})])
    assert (storage.get(THINGS, A, "a") or {})["version"] == 2


def test_without_a_server_the_engine_says_so_and_finds_out_when_it_is_back(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> Any:
        raise psycopg2.OperationalError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(psycopg2, "connect", refused)
        storage.close()
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match="can't be reached"):
                storage.get(THINGS, A, "a")
    limit = time.monotonic() + 120
    while True:
        try:
            assert storage.get(THINGS, A, "a") == thing("a")
            break
        except StorageUnavailable:
            assert time.monotonic() < limit, "it never recovers"
            time.sleep(0.1)
    storage.commit([Update(THINGS, A, "a", {})])
