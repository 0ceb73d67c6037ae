"""A connection that dies around COMMIT: what was acknowledged is applied once, whatever was lost on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from agenthub.core.errors import OutcomeUnknown, StorageUnavailable, VersionConflict
from agenthub.storage.contract import Delete, Insert, Storage, Update
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.dialect import Ticket
from tests.contracts.storage.tables import EVENTS, THINGS, A, event, thing
from tests.servers.postgresql import execute
from tests.servers.proxy import Proxy

Open = Callable[..., Storage]
HANG_SECONDS = 60


def is_commit(data: bytes) -> bool:
    return data.startswith(b"Q") and data[5:].rstrip(b"\x00") == b"COMMIT"


def is_update(data: bytes) -> bool:
    return data.startswith(b"Q") and data[5:].startswith(b"UPDATE")


@pytest.fixture
def proxy(tables: str) -> Iterator[Proxy]:
    """A proxy in front of the server of `tables`."""
    parts = urlsplit(tables)
    host = unquote(parts.netloc.rpartition("@")[2])
    upstream: Path | tuple[str, int] = Path(host) / ".s.PGSQL.5432"
    if not host.startswith("/"):
        upstream = (parts.hostname or "localhost", parts.port or 5432)
    proxy = Proxy(upstream)
    yield proxy
    proxy.close()


@pytest.fixture
def url(tables: str, proxy: Proxy) -> str:
    """The database of `tables` through the proxy."""
    parts = urlsplit(tables)
    return f"postgresql://{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"


def spoil(proxy: Proxy, mode: Any, matching: Callable[[bytes], bool], budget: int = 1) -> None:
    proxy.mode, proxy.matching, proxy.budget, proxy.spoiled = mode, matching, budget, 0


@pytest.mark.parametrize("matching", [is_commit, is_update])
@pytest.mark.parametrize("mode", ["lose_reply", "lose_request"])
def test_a_commit_is_applied_exactly_once(url: str, proxy: Proxy, open_url: Open, mode: str, matching: Callable[[bytes], bool]) -> None:
    storage = open_url(url)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    for i in range(25):
        spoil(proxy, mode, matching)
        row, inserted = storage.commit([Update(THINGS, A, "k", {"number": i + 1}, expected_version=i + 1), Insert(EVENTS, event(f"{i}"))])
        assert proxy.spoiled == 1
        assert row == thing("k", number=i + 1, version=i + 2) == storage.get(THINGS, A, "k")
        assert inserted == event(f"{i}")
    assert storage.count(EVENTS, A) == 25


@pytest.mark.parametrize("mode", ["lose_reply", "lose_request"])
def test_lost_deletes_and_inserts_are_settled(url: str, proxy: Proxy, open_url: Open, mode: str) -> None:
    storage = open_url(url)
    for i in range(8):
        spoil(proxy, mode, is_commit)
        assert storage.commit([Insert(THINGS, thing(f"{i}"))]) == [thing(f"{i}")]
        spoil(proxy, mode, is_commit)
        assert storage.commit([Delete(THINGS, A, f"{i}", expected_version=1)]) == [None]
        assert storage.count(THINGS, A) == 0


def test_threads_under_lost_acknowledgements(url: str, proxy: Proxy, open_url: Open) -> None:
    storage = open_url(url, pool_size=4, max_overflow=4)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    spoil(proxy, "lose_reply", is_commit, budget=40)

    def work(_: int) -> tuple[int, int]:
        done = unknown = 0
        while done + unknown < 25:
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
        results = list(pool.map(work, range(4)))
    proxy.mode = "pass"
    row = storage.get(THINGS, A, "k")
    assert row is not None
    done, unknown = (sum(counts) for counts in zip(*results, strict=True))
    assert proxy.spoiled == 40
    assert done <= row["number"] <= done + unknown
    assert row["version"] == row["number"] + 1


def test_a_silent_network_ends_in_an_error_and_recovers(url: str, proxy: Proxy, open_url: Open) -> None:
    storage = open_url(url)
    storage.commit([Insert(THINGS, thing("k"))])
    proxy.mode = "blackhole"
    with ThreadPoolExecutor(3) as pool:
        calls: list[Callable[[], Any]] = [
            lambda: storage.get(THINGS, A, "k"),
            lambda: storage.commit([Update(THINGS, A, "k", {"number": 2}, expected_version=1)]),
            storage.ping,
        ]
        for outcome in [pool.submit(call) for call in calls]:
            error = outcome.exception(timeout=HANG_SECONDS)
            assert isinstance(error, StorageUnavailable)
            assert error.retry_after_seconds
    proxy.reset_all()
    proxy.mode = "pass"
    assert eventually(lambda: storage.get(THINGS, A, "k")) == thing("k")
    storage.commit([Update(THINGS, A, "k", {"number": 2}, expected_version=1)])


def test_an_acknowledgement_that_never_comes_is_settled(url: str, proxy: Proxy, open_url: Open) -> None:
    """The line goes silent with the COMMIT on it; the server never gets it, and its session is ended to make sure."""
    storage = open_url(url)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    silent = threading.Event()

    def silence(data: bytes) -> bool:
        if is_commit(data) and not silent.is_set():
            silent.set()
            proxy.mode = "blackhole"
            # Only lines that exist now fall silent: new ones pass again.
            threading.Timer(0.5, lambda: setattr(proxy, "mode", "pass")).start()
        return False

    spoil(proxy, "lose_request", silence)
    with ThreadPoolExecutor(1) as pool:
        row = pool.submit(storage.commit, [Update(THINGS, A, "k", {"number": 1}, expected_version=1)]).result(HANG_SECONDS)
    assert silent.is_set()
    assert row == [thing("k", number=1, version=2)] == [storage.get(THINGS, A, "k")]


def eventually(call: Callable[[], Any]) -> Any:
    """The call's result, once the storage is reachable again."""
    for _ in range(200):
        try:
            return call()
        except StorageUnavailable:
            threading.Event().wait(0.1)
    return call()


def test_slow_networks_only_slow_things_down(url: str, proxy: Proxy, open_url: Open) -> None:
    storage = open_url(url)
    proxy.latency_seconds = 0.05
    storage.commit([Insert(THINGS, thing("k"))])
    assert storage.get(THINGS, A, "k") == thing("k")


def asked(storage: Storage, transaction: str, process: int) -> str:
    """What the server says became of the transaction."""
    assert isinstance(storage, SqlStorage)
    return storage.dialect.outcome(Ticket(transaction, process, None), storage.engine.connect)


def test_outcomes_of_transactions(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    assert isinstance(storage, SqlStorage)
    with storage.engine.connect() as connection:
        (current,) = execute(tables, "SELECT pg_current_xact_id()::text")
        assert asked(storage, str(current[0]), 0) == "committed"
        ticket, _ = storage.dialect.begin(connection, "own")
        assert ticket is not None
        connection.rollback()
        assert asked(storage, ticket.transaction, ticket.process) == "aborted"
        assert asked(storage, str(10**15), 0) == "aborted"


def test_a_transaction_left_open_is_ended_and_aborted(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    assert isinstance(storage, SqlStorage)
    with storage.engine.connect() as connection:
        ticket, _ = storage.dialect.begin(connection, "own")
        assert ticket is not None
        assert asked(storage, ticket.transaction, ticket.process) == "aborted"
        connection.invalidate()


def test_another_transaction_of_the_same_session_is_not_ended(tables: str, open_url: Open) -> None:
    storage = open_url(tables)
    assert isinstance(storage, SqlStorage)
    with storage.engine.connect() as first, storage.engine.connect() as second:
        (running, _), (other, _) = (storage.dialect.begin(one, "own") for one in (first, second))
        assert running is not None
        assert other is not None
        assert asked(storage, running.transaction, other.process) == "unknown"
        first.commit()
        second.commit()
