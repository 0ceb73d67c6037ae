"""The gate: what it refuses on every backend, that turning it waits for commits under way, and that feeds hear of everything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agenthub.core.errors import NotFound, VersionConflict, WritesPaused
from agenthub.storage.contract import ALL, EVERY_TENANT, Compare, Delete, DeleteWhere, Insert, Query, Require, Storage, Update
from agenthub.storage.gate import CHANGES, GATE, GATE_ID, held, open_gate, pause_writes, read_gate, shut, turn_gate
from tests.contracts.storage.tables import EVENTS, THINGS, A, B, event, thing


def noted(storage: Storage, feed: str = "move") -> list[tuple[str, str]]:
    rows = storage.find(CHANGES, EVERY_TENANT, Query(Compare("feed", "eq", feed), limit=1000))
    return [(row["table_name"], row["row_key"]) for row in rows]


def test_a_paused_storage_reads_and_does_not_write(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    paused = pause_writes(storage, read_gate(storage), 60, "for a test")
    for write in (Insert(THINGS, thing("l")), Update(THINGS, A, "k", {"number": 2}), Delete(THINGS, A, "k"), Delete(THINGS, A, "none")):
        with pytest.raises(WritesPaused, match="for a test") as refusal:
            storage.commit([write])
        assert refusal.value.retry_after_seconds is not None
    with pytest.raises(WritesPaused):
        storage.append(EVENTS, [event("e")])
    assert storage.get(THINGS, A, "k") == thing("k")
    open_gate(storage, paused)
    storage.commit([Update(THINGS, A, "k", {"number": 2})])


def test_a_pause_ends_by_itself(storage: Storage) -> None:
    seconds = 10.0 if storage.backend == "bigquery" else 0.3  # longer than a commit takes
    paused = pause_writes(storage, read_gate(storage), seconds, "briefly")
    with pytest.raises(WritesPaused):
        storage.commit([Insert(THINGS, thing("k"))])
    time.sleep(seconds + 0.1)
    storage.commit([Insert(THINGS, thing("k"))])
    with pytest.raises(VersionConflict):
        storage.commit([held(paused.token), Insert(THINGS, thing("l"))])


def test_only_its_holder_writes_into_a_shut_storage(storage: Storage) -> None:
    before = read_gate(storage)
    storage.commit([shut(before, "being filled")])
    token = read_gate(storage).token
    storage.commit([held(token), Insert(THINGS, thing("k"))])
    with pytest.raises(VersionConflict):
        storage.commit([held("another"), Insert(THINGS, thing("l"))])
    with pytest.raises(WritesPaused, match="being filled"):
        storage.commit([Insert(THINGS, thing("l"))])
    assert storage.count(THINGS, EVERY_TENANT) == 1


def test_of_two_that_turn_it_one_fails(storage: Storage) -> None:
    before = read_gate(storage)
    pause_writes(storage, before, 60, "first")
    with pytest.raises(VersionConflict):
        pause_writes(storage, before, 60, "second")


def test_moved_rows_are_never_written_again(storage: Storage) -> None:
    turn_gate(storage, read_gate(storage), mode="moved", note="the rows moved to x")
    with pytest.raises(WritesPaused, match="moved to x"):
        storage.commit([Insert(THINGS, thing("k"))])


def test_no_commit_takes_effect_after_the_gate_was_turned(storage: Storage) -> None:
    """Writers race the pause; what is there when it returns is all there will be, and all of it was acknowledged."""
    ends = threading.Event()
    acknowledged: list[str] = []

    def write(number: int) -> None:
        for turn in range(10_000):
            if ends.is_set():
                return
            try:
                storage.commit([Insert(THINGS, thing(f"{number}-{turn:05}")), Insert(EVENTS, event(f"{number}-{turn:05}"))])
            except WritesPaused:
                return
            acknowledged.append(f"{number}-{turn:05}")

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        time.sleep(0.2)
        pause_writes(storage, read_gate(storage), 60, "now")
        there = storage.count(THINGS, EVERY_TENANT)
        time.sleep(0.2)
        ends.set()
        for writer in writers:
            writer.result()
    assert there == storage.count(THINGS, EVERY_TENANT) == len(acknowledged) >= 4


def test_followed_changes_are_noted_in_their_commit(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("before"))])
    turn_gate(storage, read_gate(storage), followed=True, exported="events")
    storage.commit([Insert(THINGS, thing("k")), Insert(THINGS, thing("l")), Insert(EVENTS, event("e"))])
    storage.commit([Update(THINGS, A, "k", {"number": 2}), Require(THINGS, A, "l"), Delete(THINGS, B, "none", missing_ok=True)])
    storage.commit([DeleteWhere(THINGS, A, Compare("number", "eq", 1))])
    storage.append(EVENTS, [event("e"), event("f")])
    with pytest.raises(NotFound):
        storage.commit([Insert(THINGS, thing("m")), Delete(THINGS, A, "none")])
    everything = noted(storage)
    assert everything[:3] == [("things", "k"), ("things", "l"), ("events", "e")]
    assert everything[3] == ("things", "k")
    assert sorted(everything[4:6]) == [("things", "before"), ("things", "l")]
    assert everything[6:] == [("events", "f")]
    assert noted(storage, "warehouse") == [("events", "e"), ("events", "f")]


def test_own_tables_pass_and_are_not_noted(storage: Storage) -> None:
    gate = turn_gate(storage, read_gate(storage), followed=True)
    storage.commit([Insert(THINGS, thing("k"))])
    pause_writes(storage, gate, 60, "now")
    storage.commit([DeleteWhere(CHANGES, EVERY_TENANT, ALL)])
    assert noted(storage) == []
    assert storage.get(GATE, EVERY_TENANT, GATE_ID) is not None


def test_a_moment_holds_still(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k")), Insert(THINGS, thing("m"))])
    with storage.at_one_moment() as still:
        storage.commit([Insert(THINGS, thing("l")), Update(THINGS, A, "k", {"number": 2}), Delete(THINGS, A, "m")])
        assert still.find(THINGS, EVERY_TENANT, Query()) == [thing("k"), thing("m")]
        assert still.find(THINGS, EVERY_TENANT, Query(after=("k",))) == [thing("m")]
    assert [row["id"] for row in storage.find(THINGS, A, Query())] == ["k", "l"]


def test_the_gate_outlives_the_process(storage: Storage, reopen: Callable[[], Any]) -> None:
    if storage.backend == "memory":
        return
    pause_writes(storage, read_gate(storage), 60, "for all")
    other = reopen()
    with pytest.raises(WritesPaused):
        other.commit([Insert(THINGS, thing("k"))])
    other.close()
