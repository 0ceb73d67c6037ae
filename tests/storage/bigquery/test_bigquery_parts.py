"""The parts of the BigQuery backend that need no BigQuery: what an answer means, the carried clock, batches, and a commit's rehearsal."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from agenthub.core.errors import AlreadyExists, InvalidInput, NotFound, StorageUnavailable, TooManyWrites
from agenthub.storage.bigquery.clock import FRESH_SECONDS, CarriedClock
from agenthub.storage.bigquery.failures import Broken, Contended, Failure, Lost, Moved, Repeated, Throttled, classified, translated
from agenthub.storage.bigquery.lookups import Lookups
from agenthub.storage.bigquery.questions import asked
from agenthub.storage.bigquery.queue import BATCH_BYTES, CommitQueue, Waiting, _batches
from agenthub.storage.bigquery.rehearsal import Rehearsal
from agenthub.storage.bigquery.script import Snapshot, reading, writing
from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import ALL, Compare, DbNow, Delete, DeleteWhere, Insert, Require, Update, Write, eq
from agenthub.storage.queries.principals import SESSION_PRINCIPAL
from tests.contracts.storage.tables import EVENTS, MOMENT, THINGS, A, event, thing

ANSWERS: list[tuple[str, str, int, type[Exception]]] = [
    ("Query error: agenthub-turn-moved at [3:45]", "invalidQuery", 400, Moved),
    ("Transaction is aborted due to concurrent update against table p:d.t. Transaction ID: 1", "invalidQuery", 400, Contended),
    ("Could not serialize access to table p:d.t due to concurrent update", "invalidQuery", 400, Contended),
    ("Exceeded rate limits: too many api requests per user", "rateLimitExceeded", 403, Throttled),
    ("Quota exceeded: Your project exceeded quota for concurrent queries", "quotaExceeded", 403, Throttled),
    ("Too many DML statements outstanding against table p:d.t, limit is 20.", "invalidQuery", 400, Throttled),
    ("Slow down", "", 429, Throttled),
    ("Already Exists: Job p:US.x", "duplicate", 409, Repeated),
    ("An internal error occurred", "internalError", 500, Lost),
    ("The job encountered an error", "backendError", 503, Lost),
    ("Query exceeded limit for bytes billed: 10. 20 or higher required.", "bytesBilledLimitExceeded", 400, StorageUnavailable),
    ("Not found: Table p:d.things was not found in location US", "notFound", 404, StorageUnavailable),
    ("Access Denied: Table p:d.t: User does not have permission", "accessDenied", 403, StorageUnavailable),
    ("Request payload size exceeds the limit: 10485760 bytes.", "badRequest", 413, InvalidInput),
    ("UPDATE over table d.t would affect rows in the streaming buffer", "invalidQuery", 400, StorageUnavailable),
]


@pytest.mark.parametrize(("message", "reason", "status", "kind"), ANSWERS)
def test_what_an_answer_means(message: str, reason: str, status: int, kind: type[Exception]) -> None:
    assert type(classified(message, {reason}, status)) is kind
    error = api.from_http_status(status, message, errors=[{"reason": reason}])  # type: ignore[no-untyped-call]
    assert type(translated(error)) is kind


def test_what_no_answer_means() -> None:
    transport = auth.TransportError()  # type: ignore[no-untyped-call]
    for error, away in ((ConnectionResetError(), True), (transport, True), (ValueError("half"), False)):
        lost = translated(error)
        assert isinstance(lost, Lost), error
        assert lost.away is away
    assert isinstance(translated(auth.RefreshError()), StorageUnavailable)  # type: ignore[no-untyped-call]
    mistake = KeyError("ours")
    assert translated(mistake) is mistake
    for failure in (Moved(), Contended(), Throttled(), Lost("", away=True), Broken()):
        assert isinstance(failure, Failure)
        assert isinstance(failure.final(), StorageUnavailable)
        assert failure.final().retry_after_seconds


def test_a_missing_table_names_the_remedy_and_a_doubled_key_is_told() -> None:
    assert "make migrate" in str(classified("Not found: Table p:d.things", {"notFound"}, 404))
    assert "AGENTHUB_BIGQUERY_MAX_BYTES" in str(classified("bytes billed", {"bytesBilledLimitExceeded"}, 400))
    assert "key twice" in str(classified("Query error: agenthub-wrong-row-count at [9:1]", {"invalidQuery"}, 400))


def test_the_clock_is_carried_on_and_never_goes_back() -> None:
    machine, asks = [100.0], [0]

    def ask() -> datetime:
        asks[0] += 1
        machine[0] += 2.0  # the round trip
        return MOMENT

    clock = CarriedClock(ask, lambda: machine[0])
    assert clock.now() == MOMENT + timedelta(seconds=1)
    machine[0] += 10
    assert clock.now() == MOMENT + timedelta(seconds=11)
    clock.read(MOMENT, machine[0])  # a reading that is behind
    assert clock.now() == MOMENT + timedelta(seconds=11)
    assert asks[0] == 1
    machine[0] += FRESH_SECONDS + 1
    clock.now()
    assert asks[0] == 2


def test_what_arrives_during_a_batch_goes_together_in_the_next() -> None:
    batches: list[list[Sequence[Write]]] = []
    first_is_out, go_on = threading.Event(), threading.Event()

    def work(batch: Sequence[Waiting]) -> None:
        batches.append([waiting.writes for waiting in batch])
        if len(batches) == 1:
            first_is_out.set()
            assert go_on.wait(30)
        for waiting in batch:
            waiting.outcome = NotFound("no") if waiting.writes == deletes[1] else []

    queue = CommitQueue(work)
    deletes: list[list[Write]] = [[Delete(THINGS, A, f"{number}")] for number in range(4)]
    errors: list[Exception] = []

    def commit(writes: list[Write]) -> None:
        try:
            queue.commit(writes, time.monotonic() + 30)
        except NotFound as error:
            errors.append(error)

    threads = [threading.Thread(target=commit, args=(writes,)) for writes in deletes]
    threads[0].start()
    assert first_is_out.wait(30)
    for thread in threads[1:]:
        thread.start()
    with pytest.raises(StorageUnavailable):
        queue.commit([Delete(THINGS, A, "late")], time.monotonic())
    time.sleep(0.2)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert batches[0] == [deletes[0]]
    assert sorted(map(str, batches[1])) == sorted(map(str, deletes[1:]))
    assert len(errors) == 1


def test_a_batch_that_fails_fails_for_all_of_it_and_the_queue_goes_on() -> None:
    calls: list[int] = []

    def work(batch: Sequence[Waiting]) -> None:
        calls.append(len(batch))
        if len(calls) == 1:
            raise StorageUnavailable("away")
        for waiting in batch:
            waiting.outcome = []

    queue = CommitQueue(work)
    with pytest.raises(StorageUnavailable):
        queue.commit([Delete(THINGS, A, "k")], time.monotonic() + 5)
    assert queue.commit([Delete(THINGS, A, "k")], time.monotonic() + 5) == []


def test_writes_that_would_wait_too_long_are_refused_at_once_and_others_are_not() -> None:
    """Nobody is refused with nobody before it, however long a batch takes; an outage says nothing of the rate."""
    started, go_on = threading.Event(), threading.Event()
    fails = [True]

    def work(batch: Sequence[Waiting]) -> None:
        started.set()
        assert go_on.wait(30)
        if fails[0]:
            raise StorageUnavailable("away")
        for waiting in batch:
            waiting.outcome = []

    queue = CommitQueue(work)
    write: list[Write] = [Delete(THINGS, A, "k")]
    go_on.set()
    with pytest.raises(StorageUnavailable, match="away"):
        queue.commit(write, time.monotonic() + 5)
    assert queue.pace_seconds == 0
    fails[0] = False
    queue.commit(write, time.monotonic() + 5)
    assert 0 < queue.pace_seconds < 5
    queue.pace_seconds = 20.0
    assert queue.commit(write, time.monotonic() + 1) == []
    slower = queue.pace_seconds = 20.0
    started.clear()
    go_on.clear()
    first = threading.Thread(target=queue.commit, args=(write, time.monotonic() + 300))
    first.start()
    assert started.wait(30)
    with pytest.raises(TooManyWrites) as refusal:
        queue.commit(write, time.monotonic() + 30)
    assert 0 < (refusal.value.retry_after_seconds or 0) <= 2 * slower
    patient = threading.Thread(target=queue.commit, args=(write, time.monotonic() + 300))
    patient.start()
    go_on.set()
    for thread in (first, patient):
        thread.join(60)
        assert not thread.is_alive()
    assert queue.pace_seconds < slower


def test_many_batches_before_are_many_batches_of_waiting() -> None:
    big = [Insert(THINGS, thing("k", raw=b"x" * BATCH_BYTES))]
    waiting = [Waiting(big, BATCH_BYTES) for _ in range(3)]
    assert _batches(waiting) == 3
    assert _batches([*waiting, Waiting([], 1)]) == 4
    assert _batches([Waiting([], 1)] * 5) == 1
    assert _batches([]) == 0


def rehearsed(rows: list[dict[str, Any]], *commits: list[Write]) -> tuple[Rehearsal, Lookups, list[Any]]:
    """The commits tried on these rows of THINGS."""
    lookups = Lookups()
    for commit in commits:
        lookups.add(commit)
    kept = [{**row, "data": b"{}"} for row in rows]
    rehearsal = Rehearsal(MOMENT, {"things": (THINGS, kept), "events": (EVENTS, [])})
    return rehearsal, lookups, [rehearsal.tried(commit) for commit in commits]


def test_commits_of_one_batch_see_those_before_them_and_fail_alone() -> None:
    rehearsal, _, outcomes = rehearsed(
        [thing("k")],
        [Update(THINGS, A, "k", {"number": 2}, 1)],
        [Update(THINGS, A, "k", {"number": 3}, 1), Insert(EVENTS, event("lost"))],
        [Insert(THINGS, thing("l", name="k"))],
        [Require(THINGS, A, "k", Compare("number", "eq", 2)), Insert(THINGS, thing("m"))],
    )
    assert outcomes[0] == [thing("k", number=2, version=2)]
    assert [type(outcome).__name__ for outcome in outcomes[1:3]] == ["VersionConflict", "AlreadyExists"]
    assert outcomes[3] == [thing("k", number=2, version=2), thing("m")]
    (changes,) = rehearsal.changes()
    assert ([row["id"] for row in changes.replaced], [row["id"] for row in changes.added], changes.removed) == (["k"], ["m"], [])


def test_a_unique_value_that_an_update_makes_is_looked_up_before_it_is_believed_free() -> None:
    update: list[Write] = [Update(THINGS, A, "k", {"nickname": "bee"})]
    rehearsal, lookups, outcomes = rehearsed([thing("k", rank=3)], update)
    assert isinstance(outcomes[0], list)
    assert rehearsal.lacks(lookups)
    assert (("tenant_id", "nickname", "rank"), ("a", "bee", 3)) in lookups.of(THINGS).taken
    again = Rehearsal(
        MOMENT, {"things": (THINGS, [{**row, "data": b"{}"} for row in (thing("k", rank=3), thing("l", nickname="bee", rank=3))])}
    )
    assert isinstance(again.tried(update), AlreadyExists)
    assert not again.lacks(lookups)


def test_an_unchanged_unique_value_asks_for_nothing() -> None:
    rehearsal, lookups, _ = rehearsed([thing("k")], [Update(THINGS, A, "k", {"number": 5})])
    assert not rehearsal.lacks(lookups)


def test_nothing_is_written_for_commits_that_change_nothing() -> None:
    rehearsal, _, outcomes = rehearsed(
        [thing("k")],
        [Require(THINGS, A, "k")],
        [Insert(THINGS, thing("k"), ignore_existing=True)],
        [Delete(THINGS, A, "none", missing_ok=True)],
    )
    assert outcomes == [[thing("k")], [None], [None]]
    assert rehearsal.changes() == []


def test_values_never_stand_in_the_text() -> None:
    hostile = "x'); DROP TABLE things; --"
    writes: list[Write] = [
        Insert(THINGS, thing(hostile, name=hostile)),
        Update(THINGS, A, hostile, {"nickname": hostile}),
        DeleteWhere(EVENTS, A, eq(text=hostile)),
        DeleteWhere(EVENTS, A, Compare("at", "lt", DbNow(-5))),
    ]
    rehearsal, lookups, _ = rehearsed([], writes)
    text, statement = reading(lookups)
    script, parameters = writing(Snapshot(5, "", MOMENT, {}), "operation", rehearsal.changes())
    assert hostile not in text + script
    assert hostile in str([parameter.to_api_repr() for parameter in statement.parameters])
    assert hostile in str([parameter.to_api_repr() for parameter in parameters.parameters])
    assert script.startswith("BEGIN TRANSACTION;\nUPDATE `agenthub_turns`")
    assert script.count("BEGIN TRANSACTION") == script.count("COMMIT TRANSACTION") == 1
    names = [parameter.name for parameter in parameters.parameters]
    assert len(names) == len(set(names))


def test_a_table_that_is_only_added_to_is_read_by_its_keys() -> None:
    lookups = Lookups()
    lookups.add([Insert(EVENTS, event("e"), ignore_existing=True)])
    assert [column.name for column in lookups.of(EVENTS).columns] == ["id", "tenant_id"]
    lookups.add([DeleteWhere(EVENTS, A, ALL)])
    assert lookups.of(EVENTS).columns == EVENTS.columns


def test_questions_take_their_parameters_and_no_others() -> None:
    text, parameters = asked(SESSION_PRINCIPAL, {"secret_hash": "00"})
    assert "= @secret_hash" in text
    assert [parameter.name for parameter in parameters] == ["secret_hash"]
    for wrong in ({}, {"secret_hash": "00", "more": 1}):
        with pytest.raises(InvalidInput):
            asked(SESSION_PRINCIPAL, wrong)


def test_a_place_may_be_a_dataset() -> None:
    found = parse_storage_url("bigquery://some-project/rows?location=EU&endpoint=http://127.0.0.1:9050").bigquery
    assert found is not None
    assert (found.project, found.dataset, found.location, found.endpoint) == ("some-project", "rows", "EU", "http://127.0.0.1:9050")
    assert parse_storage_url("memory://").backend == "memory"
