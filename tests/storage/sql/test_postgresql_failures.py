"""PostgreSQL dies, restarts, freezes, fills up or says no: quick errors, nothing lost, recovery without a restart of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from agenthub.core.errors import OutcomeUnknown, StorageUnavailable, VersionConflict
from agenthub.storage.contract import Column, ColumnType, Delete, Insert, Query, Question, Storage, Update
from agenthub.storage.schema import create_tables
from tests.contracts.storage.tables import EVERYTHING, THINGS, A, thing
from tests.servers.postgresql import PostgresqlServer, create_database, execute, libpq_url

Open = Callable[..., Storage]
HANG_SECONDS = 60
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def bounded(call: Callable[[], Any]) -> Any:
    """The call's result; the test fails when it hangs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(HANG_SECONDS)


def eventually(call: Callable[[], Any]) -> Any:
    """The call's result, once the storage is reachable again."""
    for _ in range(200):
        try:
            return call()
        except StorageUnavailable:
            threading.Event().wait(0.1)
    return call()


def test_terminated_connections_are_not_noticed_by_callers(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    for i in range(10):
        execute(tables, TERMINATE)
        assert storage.get(THINGS, A, "k") == thing("k", number=i, version=i + 1)
        execute(tables, TERMINATE)
        storage.commit([Update(THINGS, A, "k", {"number": i + 1}, expected_version=i + 1)])


def test_many_terminated_connections_are_not_noticed_either(tables: str, open_url: Open) -> None:
    """All of a pool die while they are too fresh to be asked whether they live: the first that is found dead takes the others along."""
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    together = threading.Barrier(4)

    def read(_: int) -> Any:
        together.wait(20)
        return storage.get(THINGS, A, "k")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            assert list(pool.map(read, range(4))) == [thing("k", number=0)] * 4
            execute(tables, TERMINATE)
            assert storage.get(THINGS, A, "k") == thing("k", number=0)
            storage.commit([Update(THINGS, A, "k", {"number": 0})])
            storage.commit([Delete(THINGS, A, "k"), Insert(THINGS, thing("k", number=0))])


def test_a_connection_that_died_while_it_rested_is_replaced_unseen(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    execute(tables, TERMINATE)
    time.sleep(1.1)
    assert storage.get(THINGS, A, "k") == thing("k", number=0)


def test_terminated_connections_under_load_lose_nothing(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    over = threading.Event()

    def work(_: int) -> tuple[int, int]:
        done = unknown = 0
        while not over.is_set():
            try:
                row = storage.get(THINGS, A, "k")
                assert row is not None
                storage.commit([Update(THINGS, A, "k", {"number": row["number"] + 1}, expected_version=row["version"])])
                done += 1
            except VersionConflict:
                continue
            except OutcomeUnknown:
                unknown += 1
            except StorageUnavailable:
                continue
        return done, unknown

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, i) for i in range(4)]
        killed = 0
        for _ in range(60):
            killed += len(execute(tables, TERMINATE))
            threading.Event().wait(0.02)
        over.set()
        done, unknown = (sum(counts) for counts in zip(*(worker.result(HANG_SECONDS) for worker in workers), strict=True))
    row = storage.get(THINGS, A, "k")
    assert row is not None
    assert killed >= 60
    assert done > 0
    assert done <= row["number"] <= done + unknown


def test_a_row_locked_by_another_session_is_waited_for(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k"))])
    other = psycopg2.connect(libpq_url(tables))
    with other.cursor() as cursor:
        cursor.execute("UPDATE things SET number = 5, version = 9 WHERE id = 'k'")
    threading.Timer(2.5, other.rollback).start()  # longer than one lock_timeout
    (row,) = bounded(lambda: storage.commit([Update(THINGS, A, "k", {"number": 2}, expected_version=1)]))
    assert row == thing("k", number=2, version=2)
    other.close()


def test_a_row_locked_for_ever_ends_in_an_error(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k"))])
    other = psycopg2.connect(libpq_url(tables))
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM things WHERE id = 'k' FOR UPDATE")
    with pytest.raises(StorageUnavailable) as refusal:
        bounded(lambda: storage.commit([Update(THINGS, A, "k", {"number": 2})]))
    assert refusal.value.retry_after_seconds
    assert storage.get(THINGS, A, "k") == thing("k")
    other.close()


def test_a_pool_that_is_used_up_refuses(tables: str, open_url: Open) -> None:
    storage = open_url(tables, pool_size=1, max_overflow=0, pool_timeout_seconds=0.1)
    storage.commit([Insert(THINGS, thing("k"))])
    other = psycopg2.connect(libpq_url(tables))
    with other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM things WHERE id = 'k' FOR UPDATE")
    refusal: StorageUnavailable | None = None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(storage.commit, [Update(THINGS, A, "k", {"number": 2})])
        while refusal is None and not waiting.done():
            try:
                storage.get(THINGS, A, "k")
            except StorageUnavailable as error:
                refusal = error
        other.rollback()
        assert waiting.result(HANG_SECONDS) == [thing("k", number=2, version=2)]
    assert refusal is not None
    assert refusal.retry_after_seconds
    other.close()


def test_a_server_without_free_connections_refuses_and_recovers(postgresql_private: PostgresqlServer, open_url: Open) -> None:
    url = running(postgresql_private)
    storage = open_url(url)
    create_tables(storage, EVERYTHING)
    storage.close()
    others: list[Any] = []
    fill(url, others)
    with pytest.raises(StorageUnavailable) as refusal:
        storage.ping()
    assert refusal.value.retry_after_seconds
    others.pop().close()
    assert eventually(lambda: storage.count(THINGS, A)) == 0
    for other in others:
        other.close()


def fill(url: str, connections: list[Any]) -> None:
    """Open connections until the server has no more."""
    while True:
        try:
            connections.append(psycopg2.connect(libpq_url(url)))
        except psycopg2.OperationalError:
            return


def test_a_read_only_server_is_an_outage_that_ends(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    storage.commit([Insert(THINGS, thing("k"))])
    name = urlsplit(tables).path[1:]
    execute(tables, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    execute(tables, TERMINATE)
    try:
        with pytest.raises(StorageUnavailable):
            bounded(lambda: storage.commit([Update(THINGS, A, "k", {"number": 2})]))
        assert storage.get(THINGS, A, "k") == thing("k")
    finally:
        execute(tables, f'BEGIN READ WRITE; ALTER DATABASE "{name}" RESET default_transaction_read_only; COMMIT')
    eventually(lambda: storage.commit([Update(THINGS, A, "k", {"number": 2})]))


def running(server: PostgresqlServer) -> str:
    """A new database on the server, started if a test left it stopped."""
    try:
        return create_database(server.url())
    except psycopg2.OperationalError:
        server.start()
        return create_database(server.url())


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_outage_and_recovery_without_reopening(postgresql_private: PostgresqlServer, open_url: Open, mode: str) -> None:
    storage = open_url(running(postgresql_private))
    create_tables(storage, EVERYTHING)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    for turn in range(2):
        postgresql_private.stop(mode)
        for _ in range(30):
            for call in (lambda: storage.get(THINGS, A, "k"), lambda: storage.commit([Update(THINGS, A, "k", {"number": 9})])):
                with pytest.raises(StorageUnavailable) as refusal:
                    bounded(call)
                assert refusal.value.retry_after_seconds
        postgresql_private.start()
        assert eventually(lambda: storage.get(THINGS, A, "k")) == thing("k", number=turn, version=turn + 1)
        storage.commit([Update(THINGS, A, "k", {"number": turn + 1}, expected_version=turn + 1)])


def test_a_frozen_server_does_not_hang_callers(postgresql_private: PostgresqlServer, open_url: Open) -> None:
    storage = open_url(running(postgresql_private))
    create_tables(storage, EVERYTHING)
    storage.commit([Insert(THINGS, thing("k"))])
    postgresql_private.pause()
    try:
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(storage.find, THINGS, A, Query()) for _ in range(12)]
            assert {type(call.exception(timeout=HANG_SECONDS)) for call in calls} == {StorageUnavailable}
    finally:
        postgresql_private.resume()
    assert eventually(lambda: storage.get(THINGS, A, "k")) == thing("k")


def test_an_unreachable_server_refuses_to_start_and_says_what_to_do(open_url: Open) -> None:
    with pytest.raises(StorageUnavailable) as refusal:
        open_url("postgresql://somebody:pa%3Ass@127.0.0.1:1/agenthub")
    assert "127.0.0.1:1/agenthub" in refusal.value.message
    assert "Check that the server runs" in refusal.value.message
    assert "pa:ss" not in refusal.value.message
    assert "pa%3Ass" not in refusal.value.message


def test_several_hosts_are_tried_in_order(tables: str, open_url: Open) -> None:
    server = urlsplit(tables).netloc.rpartition("@")[2]
    storage = open_url(tables.replace(server, f"127.0.0.1:1,{server}") + "?target_session_attrs=read-write&connect_timeout=2")
    storage.commit([Insert(THINGS, thing("k"))])
    assert storage.get(THINGS, A, "k") == thing("k")


SETTINGS = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "TimeZone": "UTC",
    "application_name": "agenthub",
    "transaction_isolation": "read committed",
}


def test_session_settings_bound_every_wait(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    shown = Question(
        "settings",
        (Column("name", ColumnType.TEXT), Column("value", ColumnType.TEXT)),
        {"postgresql": "SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN :names"},
        lambda read, parameters: [],
    )
    rows = storage.ask(shown, {"names": list(SETTINGS)})
    assert {row["name"]: row["value"] for row in rows} == SETTINGS


def test_a_database_without_tables_says_what_to_run(postgresql_url: str, open_url: Open) -> None:
    storage = open_url(create_database(postgresql_url))
    for call in (lambda: storage.get(THINGS, A, "k"), lambda: storage.commit([Insert(THINGS, thing("k"))])):
        with pytest.raises(StorageUnavailable, match="make migrate"):
            call()
