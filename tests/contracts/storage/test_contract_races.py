"""Threads and processes race; whoever is told that it won did win, and nobody else did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

from agenthub.core.errors import AgentHubError, AlreadyExists, VersionConflict
from agenthub.storage.contract import (
    ALL,
    EVERY_TENANT,
    Compare,
    DbNow,
    Delete,
    DeleteWhere,
    Insert,
    Query,
    Require,
    Row,
    Storage,
    Table,
    Update,
    Write,
)
from tests.contracts.storage.conftest import opened
from tests.contracts.storage.tables import EVENTS, THINGS, A, B, add_one, event, examples, thing

THREADS = 8
PAUSE: list[Write] = [DeleteWhere(EVENTS, EVERY_TENANT, ALL)]  # between two inserts, which would else be one statement
ROOT = Path(__file__).parents[3]


def race(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Start all at once; each one's result, or the error it got."""
    barrier = Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except AgentHubError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def set_number(storage: Storage, version: int, racer: int) -> list[Row | None]:
    return storage.commit([Update(THINGS, A, "k", {"number": racer}, expected_version=version)])


def insert(storage: Storage, key: str | None, name: str | None, racer: int) -> list[Row | None]:
    """Insert with the key or the name that all racers want, the other being one's own."""
    return storage.commit([Insert(THINGS, thing(key or f"{name} {racer}", name=name or f"{key} {racer}"))])


def test_no_update_is_lost(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", number=0))])
    rounds = examples(storage, 15)
    race(lambda _: [add_one(storage, A, "k") for _ in range(rounds)])
    row = storage.get(THINGS, A, "k")
    assert row is not None
    assert (row["number"], row["version"]) == (rounds * THREADS, rounds * THREADS + 1)


def test_one_of_many_compare_and_sets_wins(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    for version in range(1, examples(storage, 10) + 1):
        results = race(partial(set_number, storage, version))
        winners = [result for result in results if isinstance(result, list)]
        assert len(winners) == 1
        assert [type(result) for result in results if not isinstance(result, list)] == [VersionConflict] * (THREADS - 1)
        assert storage.get(THINGS, A, "k") == winners[0][0]


def test_one_of_many_inserts_takes_a_key_and_a_name(storage: Storage) -> None:
    turns = examples(storage, 8)
    for turn in range(turns):
        same_key = race(partial(insert, storage, f"k{turn}", None))
        same_name = race(partial(insert, storage, None, f"n{turn}"))
        for results in (same_key, same_name):
            kinds = [type(result) for result in results]
            assert kinds.count(list) == 1
            assert kinds.count(AlreadyExists) == THREADS - 1
    assert storage.count(THINGS, A) == 2 * turns


def test_commits_that_take_two_names_in_opposite_order(storage: Storage) -> None:
    """On PostgreSQL they wait for each other: one is chosen to give way, tries again and finds the names taken."""
    for turn in range(2):
        names = [f"x{turn}", f"y{turn}"]

        def take(racer: int, names: list[str] = names) -> list[Row | None]:
            wanted = names if racer % 2 else names[::-1]
            return storage.commit([step for name in wanted for step in (Insert(THINGS, thing(f"{name} {racer}", name=name)), *PAUSE)])

        kinds = [type(result) for result in race(take, 4)]
        assert kinds.count(list) == 1
        assert kinds.count(AlreadyExists) == 3


def test_racing_appends_leave_each_row_once(storage: Storage) -> None:
    results = race(lambda i: storage.append(EVENTS, [event(f"{n:03}", text=f"{i}") for n in range(200)]))
    assert results == [None] * THREADS
    rows = storage.find(EVENTS, A, Query(limit=1000))
    assert [row["id"] for row in rows] == [f"{n:03}" for n in range(200)]


def test_one_of_many_takes_a_lease(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("lease", until=DbNow(-1)))])
    free = Compare("until", "le", DbNow())
    results = race(lambda i: storage.commit([Update(THINGS, A, "lease", {"until": DbNow(60), "nickname": f"{i}"}, where=free)]))
    assert [type(result) for result in results].count(list) == 1


def test_commits_are_seen_whole_or_not_at_all(storage: Storage) -> None:
    """Writers move an amount between two rows, in both directions (so that they deadlock); the sum never changes."""
    storage.commit([Insert(THINGS, thing("x", number=100)), Insert(THINGS, thing("y", number=100))])
    times = examples(storage, 6)

    def move(number: int) -> int:
        source, target = ("x", "y") if number % 2 else ("y", "x")
        moved = 0
        while moved < times:
            rows = storage.get_many(THINGS, A, ["x", "y"])
            assert rows["x"]["number"] + rows["y"]["number"] == 200
            writes: list[Write] = [
                Update(THINGS, A, key, {"number": rows[key]["number"] + change}, expected_version=rows[key]["version"])
                for key, change in ((source, -1), (target, 1))
            ]
            try:
                storage.commit(writes)
                moved += 1
            except VersionConflict:
                continue
        return moved

    assert race(move, 4) == [times] * 4
    rows = storage.get_many(THINGS, A, ["x", "y"])
    assert rows["x"]["version"] == rows["y"]["version"] == 4 * times + 1


def test_a_requirement_holds_until_the_commit_is_done(storage: Storage) -> None:
    """Children are added while their parent is required to be active; closing it takes them all or comes after them."""
    for turn in range(examples(storage, 10)):
        parent = f"p{turn}"
        storage.commit([Insert(THINGS, thing(parent))])

        def act(number: int, parent: str = parent) -> Any:
            if number == 0:
                return storage.commit([Update(THINGS, A, parent, {"active": False}), DeleteWhere(EVENTS, A, Compare("text", "eq", parent))])
            writes: list[Write] = [
                Require(THINGS, A, parent, Compare("active", "eq", True)),
                Insert(EVENTS, event(f"{parent} {number}", text=parent)),
            ]
            return storage.commit(writes)

        results = race(act, 5)
        assert isinstance(results[0], list)
        assert {type(result) for result in results[1:]} <= {list, VersionConflict}
        assert storage.count(EVENTS, A, Compare("text", "eq", parent)) == 0


def test_readers_and_deleters_do_not_disturb_each_other(storage: Storage) -> None:
    each = examples(storage, 25)
    storage.commit([Insert(THINGS, thing(f"k{i:03}")) for i in range(4 * each)])

    def act(number: int) -> Any:
        if number < 4:
            return [storage.commit([Delete(THINGS, A, f"k{i:03}")]) for i in range(number * each, number * each + each)]
        return [len(storage.find(THINGS, A, Query(limit=1000))) for _ in range(examples(storage, 20))]

    results = race(act)
    for counts in results[4:]:
        assert counts == sorted(counts, reverse=True)
    assert storage.count(THINGS, A) == 0


def every_key(storage: Storage, table: Table) -> set[str]:
    """The keys of all rows."""
    keys: set[str] = set()
    after: tuple[str] | None = None
    while page := storage.find(table, EVERY_TENANT, Query(limit=1000, after=after)):
        keys |= {row["id"] for row in page}
        after = (page[-1]["id"],)
    return keys


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own, doing `racer.py`'s work."""
    command = [sys.executable, str(Path(__file__).with_name("racer.py")), url, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)})


def finish(process: subprocess.Popen[str]) -> Any:
    """What the process printed, which must have ended well."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    return json.loads(output)


def test_processes_lose_no_update_and_share_no_name(sql_url: str) -> None:
    storage = opened(sql_url)
    storage.commit([DeleteWhere(table, EVERY_TENANT, ALL) for table in (THINGS, EVENTS)])
    storage.commit([Insert(THINGS, thing("k", number=0))])
    rounds, names = examples(storage, 30), examples(storage, 20)
    processes = [start(sql_url, "race", name, str(rounds), str(names)) for name in ("p", "q", "r")]
    results = [finish(process) for process in processes]
    row = storage.get(THINGS, A, "k")
    assert row is not None
    assert (row["number"], row["version"]) == (3 * rounds, 3 * rounds + 1)
    won = [name for result in results for name in result["won"]]
    assert sorted(won) == [f"name {i:02}" for i in range(names)]
    assert sorted(row["name"] for row in storage.find(THINGS, B, Query(limit=100))) == sorted(won)
    storage.close()


def test_a_killed_process_leaves_whole_commits_only(sql_url: str) -> None:
    storage = opened(sql_url)
    storage.commit([DeleteWhere(table, EVERY_TENANT, ALL) for table in (THINGS, EVENTS)])
    acknowledged: list[str] = []
    waits = [5 + turn * 7 for turn in range(4)] if storage.backend != "bigquery" else [2, 3]
    for turn, wait in enumerate(waits):
        processes = [start(sql_url, "pairs", f"{turn}{name}") for name in "pq"]
        for process in processes:
            assert process.stdout is not None
            acknowledged += [json.loads(process.stdout.readline()) for _ in range(wait)]
        for process in processes:
            process.kill()
        for process in processes:
            assert process.stdout is not None
            acknowledged += [json.loads(line) for line in process.stdout if line.endswith("\n")]
            process.wait(timeout=60)
            process.stdout.close()
    things, events = every_key(storage, THINGS), every_key(storage, EVENTS)
    assert things == events
    assert len(acknowledged) >= 2 * sum(waits)
    assert set(acknowledged) <= things
    storage.close()


def test_a_forked_child_has_connections_of_its_own(sql_url: str) -> None:
    result = finish(start(sql_url, "fork"))
    reads = 5 if sql_url.startswith("bigquery") else 50
    assert result == {"child": 0, "parent_reads": reads, "same": True}
