"""The exporter on every database that events may come from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from agenthub.core.errors import AgentHubError, Conflict, InvalidInput, StorageUnavailable, WarehouseStuck
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.configuration import parse_database_url
from agenthub.storage.contract import ALL, Compare, DbNow, DeleteWhere, Storage, Update
from agenthub.storage.gate import CHANGES, open_gate, read_gate, turn_gate
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables
from agenthub.storage.sql import backend as sql_backend
from agenthub.storage.warehouse.contract import Batch
from agenthub.storage.warehouse.exporting import Exporter, Limits
from agenthub.storage.warehouse.feed import FEED_ID, FEEDS, FeedRow, Standing
from agenthub.storage.warehouse.health import facts_of
from agenthub.storage.warehouse.thread import WarehouseThread
from tests.storage.warehouse.in_memory import MADE, TABLES, InMemoryWarehouse, written

LIMITS = Limits(batch_rows=4, interval_seconds=600, lease_seconds=60)


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    url = "memory://"
    if request.param == "sqlite":
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('sqlite'))}/events.db"
    elif request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_database"))
    storage = open_storage(replace(parse_database_url(url), accept_ephemeral_sqlite=True), Flask("warehouse"))
    create_tables(storage, MADE)
    yield storage
    storage.close()


@pytest.fixture
def storage(source: Storage) -> Storage:
    """Empty, with an open gate that nobody listens at."""
    open_gate(source, read_gate(source), exported="")
    source.commit([DeleteWhere(table, EVERY_TENANT, ALL) for table in (*MADE, CHANGES)])
    return source


@pytest.fixture
def warehouse() -> InMemoryWarehouse:
    return InMemoryWarehouse()


def exporter(storage: Storage, warehouse: InMemoryWarehouse, limits: Limits = LIMITS) -> Exporter:
    return Exporter(storage, warehouse, TABLES, limits)


def run(one: Exporter) -> int | None:
    return one.run(when_due=False)


def expired(storage: Storage) -> None:
    """Let the lease run out, as after a kill."""
    storage.commit([Update(FEEDS, EVERY_TENANT, FEED_ID, {"lease_until": DbNow(-1)})])


def test_rows_of_old_come_first_and_new_ones_follow(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    old = written(storage, 9)
    one = exporter(storage, warehouse)
    before = one.standing()
    assert (before.enabled, before.filled, before.behind_rows) == (False, False, 18)
    assert run(one) == 18
    assert warehouse.ids() == old
    new = written(storage, 3)
    behind = one.standing()
    assert (behind.filled, behind.behind_rows) == (True, 6)
    assert behind.lag_seconds > 0
    assert run(one) == 6
    assert warehouse.ids() == old | new
    after = one.standing()
    assert (after.behind_rows, after.lag_seconds, after.row_count) == (0, 0.0, 24)
    assert run(one) == 0
    assert not warehouse.repeated
    assert storage.count(CHANGES, EVERY_TENANT) == 0


def test_what_is_written_while_the_rows_of_old_come_is_there_once(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 6)

    def write_more(_batch: Batch) -> None:
        if len(warehouse.batches) < 5:
            made.update(written(storage, 1))

    warehouse.before = write_more
    run(exporter(storage, warehouse))
    run(exporter(storage, warehouse))
    assert warehouse.ids() == made


@pytest.mark.parametrize("source", ["postgresql"], indirect=True)
def test_a_transaction_that_commits_late_is_not_passed_over(
    storage: Storage, warehouse: InMemoryWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids and its time are older than those of rows that were exported before it committed. Others have one writer at a time."""
    one = exporter(storage, warehouse)
    run(one)
    arrived, go_on, late = threading.Event(), threading.Event(), set[str]()

    def held_up(name: str) -> None:
        if name == "storage.before_commit" and threading.current_thread().name == "late":
            arrived.set()
            assert go_on.wait(60)

    monkeypatch.setattr(sql_backend, "failpoint", held_up)
    thread = threading.Thread(target=lambda: late.update(written(storage, 1)), name="late")
    thread.start()
    assert arrived.wait(60)
    early = written(storage, 3)
    run(one)
    assert warehouse.ids() == early
    go_on.set()
    thread.join()
    assert run(one) == 2
    assert warehouse.ids() == early | late
    assert min(late) < min(early)


def test_turns_are_taken_when_they_are_due(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    one = exporter(storage, warehouse)
    assert one.run() == 0
    written(storage, 1)
    assert one.run() is None
    assert run(one) == 2


def test_a_failing_warehouse_postpones_and_says_why_and_nothing_is_lost(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 2)

    def fail(_batch: Batch) -> None:
        raise StorageUnavailable("BigQuery can't be reached in time", retry_after_seconds=2)

    one = exporter(storage, warehouse)
    warehouse.before = fail
    for tries in (1, 2):
        with pytest.raises(StorageUnavailable):
            run(one)
        standing = one.standing()
        assert (standing.tries, standing.error, standing.behind_rows) == (tries, "BigQuery can't be reached in time", 4)
    assert one.run() is None, "nobody tries again at once"
    made |= written(storage, 1)
    warehouse.before = lambda _: None
    assert run(one) == 8, "what was noted while the rows of old waited is sent with them and once more"
    standing = one.standing()
    assert (standing.tries, standing.error, standing.failing_seconds) == (0, None, 0.0)
    assert warehouse.ids() == made


def test_an_answer_that_is_lost_is_no_second_row(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 4)

    def lose(_batch: Batch) -> None:
        warehouse.after = lambda _: None
        raise StorageUnavailable("no answer came")

    warehouse.after = lose
    with pytest.raises(StorageUnavailable):
        run(exporter(storage, warehouse))
    run(exporter(storage, warehouse))
    assert warehouse.ids() == made
    assert sum(warehouse.repeated.values()) == 4, "the batch was put again, and the warehouse kept one"


def test_one_exporter_at_a_time_and_a_frozen_one_moves_nothing(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 4)
    frozen, other = exporter(storage, warehouse), exporter(storage, warehouse)
    others: list[int | None] = []

    def freeze(_batch: Batch) -> None:
        warehouse.before = lambda _: None
        others.append(run(other))  # the lease stands
        expired(storage)
        others.append(run(other))  # given up for dead

    warehouse.before = freeze
    assert run(frozen) is None, "its lease is gone when it wakes up"
    assert others == [None, 8]
    assert warehouse.ids() == made
    assert exporter(storage, warehouse).standing().row_count == 8


def test_racing_exporters_put_each_row_once(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    """Leases that run out at once: all of them are at work all the time."""
    made: set[str] = set()
    guard = threading.Lock()
    failures: list[BaseException] = []

    def put_alone(batch: Batch) -> None:
        with guard:
            InMemoryWarehouse.put(warehouse, batch)

    def work(number: int) -> None:
        one = exporter(storage, warehouse, replace(LIMITS, lease_seconds=0.01))
        for _ in range(6):
            mine = written(storage, 1)
            with guard:
                made.update(mine)
            try:
                run(one)
            except AgentHubError as error:  # two may turn the gate at once
                failures.append(error)

    warehouse.__dict__["put"] = put_alone
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(failure, Conflict | StorageUnavailable) for failure in failures), failures
    expired(storage)
    while exporter(storage, warehouse).standing().behind_rows:
        run(exporter(storage, warehouse))
    assert warehouse.ids() == made


def test_batches_are_bounded_in_rows_and_bytes(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    written(storage, 5, details="x" * 2000)
    run(exporter(storage, warehouse, replace(LIMITS, batch_rows=100, batch_bytes=5000)))
    written(storage, 5, details="x" * 2000)
    written(storage, 1, details="x" * 20_000)
    run(exporter(storage, warehouse, replace(LIMITS, batch_rows=100, batch_bytes=5000)))
    assert max(batch.row_count for batch in warehouse.batches) < 10
    assert len(warehouse.ids()) == 22


def test_a_row_that_is_refused_is_named_and_others_go(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    run(exporter(storage, warehouse))
    (bad,) = (key for key in written(storage, 1) if storage.get(TABLES[0], EVERY_TENANT, key))
    written(storage, 1)

    def refuse(batch: Batch) -> None:
        if any(row["id"] == bad for part in batch.parts for row in part.rows):
            raise InvalidInput("the values are more than BigQuery takes in one statement")

    warehouse.before = refuse
    with pytest.raises(Conflict, match=f"audit_events {bad}"):
        run(exporter(storage, warehouse))
    assert bad not in warehouse.ids()
    assert bad in (exporter(storage, warehouse).standing().error or "")


def test_a_table_that_is_exported_from_now_on_is_filled_too(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 3)
    run(Exporter(storage, warehouse, TABLES[:1], LIMITS))
    assert len(warehouse.ids()) == 3
    made |= written(storage, 2)
    run(exporter(storage, warehouse))
    assert warehouse.ids() == made
    assert read_gate(storage).exported == "activity_events,audit_events"


def test_an_export_that_was_ended_begins_anew_without_a_second_row(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 3)
    run(exporter(storage, warehouse))
    exporter(storage, warehouse).end()
    made |= written(storage, 2)
    assert storage.count(CHANGES, EVERY_TENANT) == 0
    assert not exporter(storage, warehouse).standing().enabled
    run(exporter(storage, warehouse))
    assert warehouse.ids() == made


def test_events_that_are_gone_before_they_were_exported_stop_nothing(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    run(exporter(storage, warehouse))
    gone = written(storage, 1)
    storage.commit([DeleteWhere(table, EVERY_TENANT, Compare("id", "in", tuple(gone))) for table in TABLES])
    made = written(storage, 1)
    assert run(exporter(storage, warehouse)) == 2
    assert warehouse.ids() == made
    assert exporter(storage, warehouse).standing().behind_rows == 0


def test_nothing_is_exported_from_a_database_that_was_left(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    written(storage, 1)
    turn_gate(storage, read_gate(storage), mode="moved", note="the rows moved to elsewhere")
    with pytest.raises(Conflict, match="moved to elsewhere"):
        run(exporter(storage, warehouse))
    assert not warehouse.ids()


def test_a_pause_of_writes_does_not_stop_the_export(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    run(exporter(storage, warehouse))
    made = written(storage, 2)
    turn_gate(storage, read_gate(storage), mode="paused", token="t", until=DbNow(600), note="maintenance")
    assert run(exporter(storage, warehouse)) == 4
    assert warehouse.ids() == made


def test_a_thread_exports_until_it_is_closed(storage: Storage, warehouse: InMemoryWarehouse) -> None:
    made = written(storage, 2)
    done = threading.Event()
    warehouse.after = lambda _: done.set() if warehouse.ids() == made else None
    thread = WarehouseThread(exporter(storage, warehouse), 0.05, enabled=True)
    thread.begin()
    assert done.wait(120)
    thread.close()
    silent = WarehouseThread(exporter(storage, warehouse), 0.05, enabled=False)
    silent.begin()
    silent.close()


def test_a_lease_that_was_given_back_is_taken_at_once(storage: Storage) -> None:
    feed = FeedRow(storage, 60)
    first = feed.take()
    assert first is not None
    assert feed.take() is None
    feed.release(first, 0.0)
    assert feed.take() is not None


def test_health_says_what_is_wrong() -> None:
    sound = Standing(enabled=True, filled=True, behind_rows=3, lag_seconds=12.5, row_count=10)
    assert facts_of(sound)["lag_seconds"] == 12.5
    with pytest.raises(WarehouseStuck, match=r"90 seconds and 5 tries: quota .*3 rows wait"):
        facts_of(replace(sound, tries=5, error="quota", failing_seconds=90))
    with pytest.raises(WarehouseStuck, match="no process exports"):
        facts_of(replace(sound, lag_seconds=1000))
