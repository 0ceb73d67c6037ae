"""The warehouse in BigQuery: each row once, whatever BigQuery and the way to it do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.core.ids import new_id
from agenthub.repositories.operations import AUDIT_EVENTS, SYSTEM, audit_event, row_of
from agenthub.storage.bigquery import client
from agenthub.storage.bigquery.warehouse import BigQueryWarehouse, exported
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import Column, ColumnType, Row
from agenthub.storage.memory import MemoryStorage
from agenthub.storage.warehouse.contract import Batch, Part
from agenthub.storage.warehouse.exporting import Exporter, Limits
from tests.servers.bigquery import BigQueryPlace, Emulator
from tests.servers.bigquery_faults import Call, Fault, faulty_bigquery, first
from tests.storage.warehouse.in_memory import TABLES, TENANT, written

FAULTS: tuple[Fault, ...] = ("quota", "lost_request", "lost_reply", "aborted", "broken_after")
MORE_FAULTS: tuple[Fault, ...] = ("throttled", "unavailable", "half_reply", "serialized", "dml_queue", "broken_before")
"""They run with the torture, for they are told as those above are: tests of commits meet each of them (test_bigquery_faults.py)."""
LIMITS = Limits(batch_rows=3, interval_seconds=600)


@pytest.fixture(scope="module")
def sound(bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings) -> Iterator[BigQueryWarehouse]:
    """A warehouse without faults."""
    if bigquery_place.endpoint is None:
        pytest.fail("these faults are put before an emulator: run without TEST_BIGQUERY_PROJECT")
    warehouse = BigQueryWarehouse(replace(bigquery_dataset, timeout_seconds=120.0))
    warehouse.make(TABLES)
    yield warehouse
    warehouse.close()


def spoiled(dataset: BigQuerySettings, endpoint: str, seconds: float = 120.0) -> BigQueryWarehouse:
    return BigQueryWarehouse(replace(dataset, endpoint=endpoint, timeout_seconds=seconds))


def rows(count: int) -> list[Row]:
    start = datetime.now(UTC)
    events = [audit_event(SYSTEM, TENANT, "a.b", "a", None, start + timedelta(days=day % 3), "ok", {"n": 1.0}) for day in range(count)]
    return [row_of(event) for event in events]


def batch(some: list[Row]) -> Batch:
    return Batch(new_id(), (Part(AUDIT_EVENTS, some),))


def added(warehouse: BigQueryWarehouse, before: tuple[int, int], count: int) -> bool:
    """Whether so many rows came since, each once."""
    number, different = warehouse.count(AUDIT_EVENTS)
    return number == different == before[0] + count


@pytest.mark.parametrize("fault", [*FAULTS, *(pytest.param(fault, marks=pytest.mark.torture) for fault in MORE_FAULTS)])
def test_a_batch_that_meets_a_fault_is_there_once(sound: BigQueryWarehouse, bigquery_dataset: BigQuerySettings, fault: Fault) -> None:
    before, some = sound.count(AUDIT_EVENTS), rows(3)
    with faulty_bigquery(str(bigquery_dataset.endpoint), first(fault, lambda call: call.starts_job)) as server:
        warehouse = spoiled(bigquery_dataset, server.endpoint)
        warehouse.put(batch(some))
        assert server.met == [fault]
        warehouse.close()
    assert added(sound, before, 3)


@pytest.mark.parametrize(
    "fault", ["lost_reply", *(pytest.param(fault, marks=pytest.mark.torture) for fault in ("quota", "unavailable", "half_reply"))]
)
def test_an_error_while_waiting_is_not_taken_for_the_jobs(
    sound: BigQueryWarehouse, bigquery_dataset: BigQuerySettings, fault: Fault
) -> None:
    before = sound.count(AUDIT_EVENTS)
    script = first(fault, lambda call: call.asks_for_job and "/queries/" in call.path)
    with faulty_bigquery(str(bigquery_dataset.endpoint), script) as server:
        warehouse = spoiled(bigquery_dataset, server.endpoint)
        warehouse.put(batch(rows(2)))
        assert server.met == [fault]
        warehouse.close()
    assert added(sound, before, 2)


def test_a_job_that_was_sent_and_never_answered_is_settled_by_its_name(
    sound: BigQueryWarehouse, bigquery_dataset: BigQuerySettings
) -> None:
    """Killed after sending: the same batch by another process is the same job, which BigQuery knows."""
    before, one = sound.count(AUDIT_EVENTS), batch(rows(3))
    with faulty_bigquery(str(bigquery_dataset.endpoint), first("lost_reply", lambda call: call.starts_job)) as server:
        warehouse = spoiled(bigquery_dataset, server.endpoint)
        warehouse.put(one)
        jobs = [call.body.split(b'"jobId": "')[1].split(b'"')[0] for call in server.calls if call.starts_job]
        assert len(set(jobs)) == 1
        assert jobs[0].startswith(f"agenthub_warehouse_{one.name}_".encode())
        warehouse.close()
    sound.put(one)
    assert added(sound, before, 3)


def test_the_same_rows_in_other_batches_are_there_once(sound: BigQueryWarehouse) -> None:
    before, some = sound.count(AUDIT_EVENTS), rows(6)
    for part in (some[:4], some[2:], some, some[:1]):
        sound.put(batch(part))
    assert added(sound, before, 6)


def test_racing_exporters_that_put_the_same_rows_put_each_once(sound: BigQueryWarehouse, bigquery_dataset: BigQuerySettings) -> None:
    before, some = sound.count(AUDIT_EVENTS), rows(8)
    others = [spoiled(bigquery_dataset, str(bigquery_dataset.endpoint)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for number, outcome in enumerate([pool.submit(other.put, batch(some[at : at + 6])) for at, other in enumerate(others)]):
            assert outcome.result() is None, number
    for other in others:
        other.close()
    assert added(sound, before, 8)


def test_rows_keep_what_they_hold(sound: BigQueryWarehouse) -> None:
    event = audit_event(SYSTEM, TENANT, "a.b", "a", None, datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "ok", {"é": [1, 1.0, None, "'"]})
    sound.put(batch([row_of(event)]))
    assert sound._storage.get(exported(AUDIT_EVENTS), TENANT, event.id) == row_of(event)


def test_columns_are_added_and_making_twice_changes_nothing(sound: BigQueryWarehouse) -> None:
    wider = replace(AUDIT_EVENTS, columns=(*AUDIT_EVENTS.columns, Column("region", ColumnType.TEXT, nullable=True)))
    before = sound.count(AUDIT_EVENTS)
    for _ in range(2):
        sound.make([wider])
    sound.put(Batch(new_id(), (Part(wider, [{**row, "region": "eu"} for row in rows(1)]),)))
    sound.put(batch(rows(1)))  # a release before that one
    assert added(sound, before, 2)


def test_a_warehouse_that_was_not_made_says_what_to_run(bigquery_place: BigQueryPlace) -> None:
    warehouse = BigQueryWarehouse(replace(bigquery_place.dataset(), timeout_seconds=20.0))
    with pytest.raises(StorageUnavailable, match="make migrate"):
        warehouse.put(batch(rows(1)))
    warehouse.close()


def test_a_quota_that_stays_full_ends_in_time(sound: BigQueryWarehouse, bigquery_dataset: BigQuerySettings) -> None:
    before = sound.count(AUDIT_EVENTS)
    with faulty_bigquery(str(bigquery_dataset.endpoint), lambda call: "dml_queue" if call.starts_job else None) as server:
        warehouse = spoiled(bigquery_dataset, server.endpoint, seconds=2.0)
        with pytest.raises(StorageUnavailable, match="quota") as refusal:
            warehouse.put(batch(rows(1)))
        assert refusal.value.retry_after_seconds
        warehouse.close()
    assert added(sound, before, 0)


def test_what_never_answers_is_put_by_the_next_turn(sound: BigQueryWarehouse, bigquery_dataset: BigQuerySettings) -> None:
    """The batch arrives, and nobody answers from then on; the exporter comes again, with more rows in other batches."""
    before, storage = sound.count(AUDIT_EVENTS), MemoryStorage()
    gone: list[Call] = []

    def script(call: Call) -> Fault | None:
        if call.starts_job and not gone:
            gone.append(call)
            return "lost_reply"
        return "lost_request" if gone else None

    written(storage, 4)
    with faulty_bigquery(str(bigquery_dataset.endpoint), script) as server:
        warehouse = spoiled(bigquery_dataset, server.endpoint, seconds=2.0)
        with pytest.raises(StorageUnavailable):
            Exporter(storage, warehouse, TABLES, LIMITS).run()
        warehouse.close()
    written(storage, 1)
    Exporter(storage, sound, TABLES, LIMITS).run(when_due=False)
    assert added(sound, before, 5)


@pytest.mark.torture
def test_the_export_goes_on_when_bigquery_is_back(bigquery_private: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and frozen under way: each turn ends in time with the reason, writers never notice, and nothing is lost or doubled."""
    monkeypatch.setattr(client, "CALL_SECONDS", 1.0)
    warehouse = BigQueryWarehouse(replace(bigquery_private.place().dataset(), timeout_seconds=5.0))
    warehouse.make(TABLES)
    storage = MemoryStorage()
    one = Exporter(storage, warehouse, TABLES, LIMITS)
    written(storage, 4)
    one.run()
    for stop, go_on in ((bigquery_private.kill, bigquery_private.start), (bigquery_private.pause, bigquery_private.resume)):
        stop()
        written(storage, 4)
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            one.run(when_due=False)
        assert time.monotonic() - started < 60
        assert one.standing().error
        go_on()
    exported_at_last(one)
    assert warehouse.count(AUDIT_EVENTS) == (12, 12)
    assert one.standing().error is None
    warehouse.close()


def exported_at_last(one: Exporter) -> None:
    limit = time.monotonic() + 300
    while one.standing().behind_rows and time.monotonic() < limit:
        try:
            one.run(when_due=False)
        except StorageUnavailable:
            time.sleep(0.5)
    assert one.standing().behind_rows == 0
