"""T31: the genuine client against what the service does and no emulator: quotas, cancelled transactions, lost and broken answers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from agenthub.core.errors import AlreadyExists, OutcomeUnknown, StorageUnavailable, VersionConflict
from agenthub.storage.bigquery import client, committing
from agenthub.storage.bigquery.backend import BigQueryStorage
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import ALL, EVERY_TENANT, DeleteWhere, Insert, Query, Update
from tests.contracts.storage.tables import EVENTS, EVERYTHING, THINGS, A, event, thing
from tests.servers.bigquery import BigQueryPlace, Emulator
from tests.servers.bigquery_faults import Call, Fault, faulty_bigquery, first

WRITES: tuple[Fault, ...] = (
    "quota",
    "throttled",
    "unavailable",
    "lost_request",
    "lost_reply",
    "half_reply",
    "aborted",
    "serialized",
    "dml_queue",
    "broken_before",
    "broken_after",
)


@pytest.fixture(scope="module")
def emulated(bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings) -> Iterator[BigQueryStorage]:
    """The dataset's storage without faults."""
    if bigquery_place.endpoint is None:
        pytest.fail("these faults are put before an emulator: run without TEST_BIGQUERY_PROJECT")
    storage = BigQueryStorage(bigquery_dataset)
    storage.own_schema.make(EVERYTHING)
    yield storage
    storage.close()


@pytest.fixture
def sound(emulated: BigQueryStorage) -> BigQueryStorage:
    """That storage with a row `k` and nothing else."""
    emulated.commit([*(DeleteWhere(table, EVERY_TENANT, ALL) for table in EVERYTHING), Insert(THINGS, thing("k", number=0))])
    return emulated


def spoiled(sound: BigQueryStorage, endpoint: str, seconds: float = 30.0) -> BigQueryStorage:
    """The same rows by way of the faults."""
    return BigQueryStorage(replace(sound.settings, endpoint=endpoint, timeout_seconds=seconds))


@pytest.mark.parametrize("fault", WRITES)
def test_a_commit_that_meets_a_fault_takes_effect_once(sound: BigQueryStorage, fault: Fault) -> None:
    with faulty_bigquery(str(sound.settings.endpoint), first(fault, lambda call: call.starts_job)) as server:
        storage = spoiled(sound, server.endpoint)
        result = storage.commit([Update(THINGS, A, "k", {"number": 7}, expected_version=1), Insert(EVENTS, event("e"))])
        assert result == [thing("k", number=7, version=2), event("e")]
        assert server.met == [fault]
        storage.close()
    assert sound.get(THINGS, A, "k") == result[0]
    assert sound.count(EVENTS, A) == 1


@pytest.mark.parametrize("fault", ["quota", "unavailable", "lost_reply", "half_reply"])
def test_an_error_while_waiting_is_not_taken_for_the_jobs(sound: BigQueryStorage, fault: Fault) -> None:
    script = first(fault, lambda call: call.asks_for_job and "/queries/" in call.path)
    with faulty_bigquery(str(sound.settings.endpoint), script) as server:
        storage = spoiled(sound, server.endpoint)
        assert storage.commit([Update(THINGS, A, "k", {"number": 7}, expected_version=1)]) == [thing("k", number=7, version=2)]
        assert server.met == [fault]
        assert sum(call.starts_job for call in server.calls) in (1, 2)
        storage.close()
    assert sound.get(THINGS, A, "k") == thing("k", number=7, version=2)


@pytest.mark.parametrize("fault", ["quota", "unavailable", "lost_request", "lost_reply", "half_reply"])
def test_a_read_is_asked_again(sound: BigQueryStorage, fault: Fault) -> None:
    with faulty_bigquery(str(sound.settings.endpoint), first(fault, lambda call: call.reads)) as server:
        storage = spoiled(sound, server.endpoint)
        assert storage.get(THINGS, A, "k") == thing("k", number=0)
        assert server.met == [fault]
        storage.close()


def test_a_quota_that_stays_full_is_unavailable_and_says_when_to_come_back(sound: BigQueryStorage) -> None:
    with faulty_bigquery(str(sound.settings.endpoint), lambda call: "dml_queue" if call.starts_job else None) as server:
        storage = spoiled(sound, server.endpoint, seconds=8.0)
        started = time.monotonic()
        with pytest.raises(StorageUnavailable, match="quota") as refusal:
            storage.commit([Update(THINGS, A, "k", {"number": 7})])
        assert refusal.value.retry_after_seconds == 10
        assert time.monotonic() - started < 25
        storage.close()
    assert sound.get(THINGS, A, "k") == thing("k", number=0)


def test_what_can_not_be_settled_is_unknown_and_takes_effect_at_most_once(sound: BigQueryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit arrives, its answer is lost, and nobody answers from then on."""
    monkeypatch.setattr(committing, "SETTLE_SECONDS", 1.0)
    gone: list[Call] = []

    def script(call: Call) -> Fault | None:
        if call.starts_job and not gone:
            gone.append(call)
            return "lost_reply"
        return "lost_request" if gone else None

    with faulty_bigquery(str(sound.settings.endpoint), script) as server:
        storage = spoiled(sound, server.endpoint)
        with pytest.raises(OutcomeUnknown):
            storage.commit([Update(THINGS, A, "k", {"number": 7}, expected_version=1)])
        storage.close()
    assert sound.get(THINGS, A, "k") == thing("k", number=7, version=2)


def test_nothing_is_ever_streamed_and_each_job_has_one_script(sound: BigQueryStorage) -> None:
    with faulty_bigquery(str(sound.settings.endpoint), lambda _: None) as server:
        storage = spoiled(sound, server.endpoint)
        storage.append(EVENTS, [event(f"{number}") for number in range(5)])
        storage.append(EVENTS, [event(f"{number}") for number in range(5)])
        assert not [call.path for call in server.calls if "insertAll" in call.path]
        bodies = [call.body for call in server.calls if call.starts_job]
        assert len(bodies) == 1, "a repeated append has nothing to write"
        assert b'"useQueryCache": false' in bodies[0]
        assert b"maximumBytesBilled" in bodies[0]
        storage.close()


def test_a_streaming_buffer_in_the_way_is_unavailable(sound: BigQueryStorage) -> None:
    """It can only come of rows that somebody else streamed into our tables."""
    with faulty_bigquery(str(sound.settings.endpoint), lambda call: "streaming_buffer" if call.starts_job else None) as server:
        storage = spoiled(sound, server.endpoint)
        with pytest.raises(StorageUnavailable, match="streaming buffer"):
            storage.commit([Update(THINGS, A, "k", {"number": 7})])
        storage.close()


def test_racing_writers_under_faults_lose_and_double_nothing(sound: BigQueryStorage) -> None:
    """T31's checker: two processes' worth of storages, three threads each, a fault in a third of all calls."""
    chance = random.Random(31)
    kinds: tuple[Fault, ...] = tuple(fault for fault in WRITES if fault not in ("quota", "throttled", "dml_queue"))

    def script(call: Call) -> Fault | None:
        if chance.random() > 0.33:
            return None
        return chance.choice(kinds) if call.starts_job else chance.choice(["lost_reply", "half_reply", "unavailable"])

    with faulty_bigquery(str(sound.settings.endpoint), script) as server:
        storages = [spoiled(sound, server.endpoint, 60.0) for _ in range(2)]
        with ThreadPoolExecutor(6) as pool:
            counts = list(pool.map(lambda racer: _add_and_take(storages[racer % 2], racer), range(6)))
        for storage in storages:
            storage.close()
        assert len(server.met) >= 5
    row = sound.get(THINGS, A, "k")
    assert row is not None
    certain, unknown = sum(count[0] for count in counts), sum(count[1] for count in counts)
    assert certain <= row["number"] <= certain + unknown
    assert row["version"] == row["number"] + 1
    names = [found["name"] for found in sound.find(THINGS, A, Query(limit=1000)) if found["id"] != "k"]
    assert len(names) == len(set(names))
    assert {name for count in counts for name in count[2]} <= set(names)


def _add_and_take(storage: BigQueryStorage, racer: int) -> tuple[int, int, list[str]]:
    """Add one three times and try to take three names: how often that is certain, how often unknown, and the names."""
    certain = unknown = 0
    taken: list[str] = []
    for turn in range(3):
        done = False
        while not done:
            try:
                row = storage.get(THINGS, A, "k")
                assert row is not None
                storage.commit([Update(THINGS, A, "k", {"number": row["number"] + 1}, expected_version=row["version"])])
                certain, done = certain + 1, True
            except OutcomeUnknown:
                unknown, done = unknown + 1, True
            except (VersionConflict, StorageUnavailable):
                continue
        try:
            storage.commit([Insert(THINGS, thing(f"{racer} {turn}", name=f"name {turn}"))])
            taken.append(f"name {turn}")
        except (AlreadyExists, StorageUnavailable):
            continue
    return certain, unknown, taken


def soon_answered(storage: BigQueryStorage) -> bool:
    """Whether the storage works again by itself within a minute."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            return storage.ping() >= 0
        except StorageUnavailable:
            time.sleep(0.5)
    return False


def test_an_endpoint_that_is_away_is_said_at_once(bigquery_private: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, frozen, back: never a hang, and everything goes on by itself."""
    monkeypatch.setattr(client, "CALL_SECONDS", 1.0)
    storage = BigQueryStorage(replace(bigquery_private.place().dataset(), timeout_seconds=5.0))
    storage.own_schema.make(EVERYTHING)
    for stop, go_on in ((bigquery_private.kill, bigquery_private.start), (bigquery_private.pause, bigquery_private.resume)):
        stop()
        started = time.monotonic()
        for work in (lambda: storage.get(THINGS, A, "k"), lambda: storage.commit([Insert(EVENTS, event("e"))])):
            with pytest.raises(StorageUnavailable) as refusal:
                work()
            assert refusal.value.retry_after_seconds
        assert time.monotonic() - started < 20
        go_on()
        assert soon_answered(storage)
    storage.close()
