"""A copy is the same rows on every backend, whatever kills it, and a followed source's changes all arrive."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from agenthub.core.errors import AgentHubError, Conflict, WritesPaused
from agenthub.storage.contract import EVERY_TENANT, Delete, Insert, Query, Storage, Update
from agenthub.storage.gate import CHANGES, open_gate, pause_writes, read_gate
from agenthub.storage.moving.canonical import content_sha256
from agenthub.storage.moving.scanning import pages, summed
from agenthub.storage.moving.switching import switch
from tests.contracts.storage.tables import EVENTS, EVERYTHING, THINGS, A, thing
from tests.storage.moving.conftest import Make, moving, populate

ROOT = Path(__file__).parents[3]
HOPS = ("memory", "sqlite", "postgresql", "sqlite", "memory")


def content(storage: Storage) -> str:
    return content_sha256(summed(storage, EVERYTHING))


def test_rows_are_the_same_after_every_hop(make: Make) -> None:
    storages = [make(kind, f"hop{number}") for number, kind in enumerate(HOPS)]
    populate(storages[0])
    expected = content(storages[0])
    for source, target in pairwise(storages):
        move = moving(source, target)
        move.copy(follow=False)
        assert move.compare().differing == ()
        move.finish()
        assert content(target) == expected
        target.commit([Insert(THINGS, thing("zzz", name="taken at once")), Delete(THINGS, A, "zzz")])
    for table in EVERYTHING:
        assert [r for p in pages(storages[-1], table) for r in p] == [r for p in pages(storages[0], table) for r in p]


def test_rows_are_the_same_by_way_of_bigquery(make: Make) -> None:
    storages = [make("sqlite", "first"), make("postgresql"), make("bigquery"), make("sqlite", "last")]
    populate(storages[0], 120)
    expected = content(storages[0])
    for source, target in pairwise(storages):
        move = moving(source, target)
        move.copy(follow=False)
        assert move.compare().differing == ()
        move.finish()
        assert content(target) == expected


def test_only_an_empty_target_is_filled(make: Make) -> None:
    source, target = make("memory"), make("sqlite")
    populate(source, 3)
    target.commit([Insert(THINGS, thing("mine"))])
    with pytest.raises(Conflict, match="not empty"):
        moving(source, target).copy(follow=False)
    target.commit([Delete(THINGS, A, "mine")])  # the refusal left it as it was
    moving(source, target).copy(follow=False)
    with pytest.raises(WritesPaused):
        target.commit([Insert(THINGS, thing("mine"))])
    with pytest.raises(Conflict, match="already holds a copy"):
        moving(make("memory"), target).copy(follow=False)
    with pytest.raises(Conflict, match="same database"):
        moving(source, source).copy(follow=False)


def test_a_difference_is_found_and_mended(make: Make) -> None:
    source, target = make("memory"), make("sqlite")
    populate(source, 700)
    move = moving(source, target)
    move.copy(follow=False)
    first, second = source.find(THINGS, EVERY_TENANT, Query(limit=2))
    source.commit([Delete(THINGS, EVERY_TENANT, first["id"]), Update(THINGS, EVERY_TENANT, second["id"], {"number": 5})])
    source.commit([Insert(THINGS, thing("new", name=first["name"], tenant_id=first["tenant_id"]))])
    found = move.compare().differing
    assert sorted(key for _, key in found) == sorted([first["id"], second["id"], "new"])
    move.repair(found)
    assert move.compare().differing == ()


def churn(storage: Storage, seed: int, ends: threading.Event) -> None:
    """Insert, change and remove, names handed from row to row, until told to end."""
    chooser = random.Random(seed)
    while not ends.wait(0.002):
        key, other = (f"churn{chooser.randrange(40)}" for _ in range(2))
        name = f"name {chooser.randrange(60)}"
        try:
            match chooser.randrange(4):
                case 0:
                    storage.commit([Insert(THINGS, thing(key, name=name))])
                case 1:
                    storage.commit([Update(THINGS, A, key, {"name": name})])
                case 2:
                    storage.commit([Delete(THINGS, A, key)])
                case _:
                    mine, theirs = storage.get(THINGS, A, key), storage.get(THINGS, A, other)
                    if mine and theirs and key != other:
                        storage.commit(
                            [
                                Update(THINGS, A, key, {"name": f"{seed}"}, mine["version"]),
                                Update(THINGS, A, other, {"name": mine["name"]}, theirs["version"]),
                                Update(THINGS, A, key, {"name": theirs["name"]}),
                            ]
                        )
        except AgentHubError:
            continue


@contextmanager
def churning(storage: Storage, writers: int = 3) -> Iterator[threading.Event]:
    ends = threading.Event()
    with ThreadPoolExecutor(writers) as pool:
        running = [pool.submit(churn, storage, seed, ends) for seed in range(writers)]
        try:
            yield ends
        finally:
            ends.set()
            for one in running:
                one.result()


@pytest.mark.parametrize(("here", "there"), [("memory", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "memory")])
def test_a_followed_copy_catches_up_with_writers(make: Make, here: str, there: str) -> None:
    source, target = make(here, "source"), make(there, "target")
    populate(source, 600)
    move = moving(source, target)
    with churning(source):
        move.copy(follow=True)
        for _ in range(5):
            move.drain()
    pause_writes(source, read_gate(source), 60, "to compare")
    while move.drain():
        pass
    assert move.compare().differing == ()
    assert source.count(CHANGES, EVERY_TENANT) == 0


@pytest.mark.parametrize(("here", "there"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_switch_under_writers_and_the_way_back(make: Make, here: str, there: str) -> None:
    source, target = make(here, "source"), make(there, "target")
    populate(source, 600)
    move, back = moving(source, target), moving(target, source)
    with churning(source):
        move.copy(follow=True)
        done = switch(move)
    assert done.paused_seconds < 10
    assert done.repaired == 0
    assert move.compare().differing == ()
    with pytest.raises(WritesPaused, match="moved to there"):
        source.commit([Insert(THINGS, thing("late"))])
    switch(move)  # said once more, it changes nothing
    with churning(target):
        target.commit([Insert(EVENTS, {"id": "new", "tenant_id": "a", "at": target.now(), "text": "written after the switch"})])
    switch(back)
    assert back.compare().differing == ()
    assert source.get(EVENTS, A, "new") is not None
    source.commit([Insert(THINGS, thing("back"))])
    with pytest.raises(WritesPaused):
        target.commit([Insert(THINGS, thing("late"))])


def test_a_pause_that_runs_out_switches_nothing(make: Make) -> None:
    source, target = make("sqlite", "source"), make("sqlite", "target")
    populate(source, 30)
    move = moving(source, target)
    move.copy(follow=True)
    with pytest.raises(Conflict, match="ran out"):
        switch(move, pause_seconds=0.0)
    source.commit([Insert(THINGS, thing("goes on"))])
    with pytest.raises(WritesPaused):
        target.commit([Insert(THINGS, thing("not yet"))])
    switch(move)
    target.commit([Insert(THINGS, thing("now"))])
    assert target.get(THINGS, A, "goes on") is not None


def test_a_switch_needs_a_followed_copy(make: Make) -> None:
    source, target = make("memory"), make("memory")
    with pytest.raises(Conflict, match="holds no copy"):
        switch(moving(source, target))
    moving(source, target).copy(follow=False)
    with pytest.raises(Conflict, match="not a followed copy"):
        switch(moving(source, target))
    open_gate(source, read_gate(source))


def test_two_that_fill_one_target_do_no_harm(make: Make) -> None:
    source, target = make("sqlite", "source"), make("sqlite", "target")
    populate(source, 900)

    def copy(_: int) -> str:
        try:
            moving(source, target).copy(follow=False)
        except AgentHubError as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(copy, range(2)))
    assert set(outcomes) <= {"done", "VersionConflict", "Conflict", "AlreadyExists"}
    moving(source, target).copy(follow=False)
    assert moving(source, target).compare().differing == ()


def killed_everywhere(source_url: str, target_url: str, command: str, stride: int) -> int:
    """Run it, each time killed some failpoints later than the last time, until it ends; how often it was killed."""
    for kills in range(200):
        arguments = [sys.executable, "-m", "tests.storage.moving.mover", command, source_url, target_url, f"all=kill@{kills * stride + 1}"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode == 0:
            return kills
        assert done.returncode == -9, done.stderr
    raise AssertionError("it never ended")


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.torture)])
def test_a_move_killed_at_many_steps_is_whole_in_the_end(make: Make, tmp_path: Path, stride: int) -> None:
    source, target = make("sqlite", "source"), make("sqlite", "target")
    populate(source, 600)
    urls = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    assert killed_everywhere(*urls, "copy", stride) >= 1
    source.commit([Insert(THINGS, thing("later"))])
    assert killed_everywhere(*urls, "switch", stride) >= 1
    assert moving(source, target).compare().differing == ()
    target.commit([Insert(THINGS, thing("open"))])
    with pytest.raises(WritesPaused):
        source.commit([Insert(THINGS, thing("shut"))])


def at_step(urls: tuple[str, str], command: str, step: int) -> bool:
    """Run it, killed at that failpoint; whether it was killed."""
    arguments = [sys.executable, "-m", "tests.storage.moving.mover", command, *urls, f"all=kill@{step}"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


@pytest.mark.torture
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("command", ["copy", "switch"])
def test_a_move_killed_at_each_step_goes_on(make: Make, tmp_path: Path, command: str) -> None:
    """Each step of a whole run once: a database of its own, killed there, then run to its end."""
    step, killed = 1, True
    while killed:
        names = f"source{step}", f"target{step}"
        source, target = (make("sqlite", name) for name in names)
        populate(source, 300)
        urls = f"sqlite:///{tmp_path}/{names[0]}.db", f"sqlite:///{tmp_path}/{names[1]}.db"
        if command == "switch":
            moving(source, target).copy(follow=True)
            source.commit([Insert(THINGS, thing("later"))])
        killed = at_step(urls, command, step)
        assert not at_step(urls, command, 10**9)
        assert moving(source, target).compare().differing == ()
        step += 1
    assert step > 6, "it was killed at several steps"
