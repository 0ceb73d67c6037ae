"""Merging beside other writers, over the real repositories."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agenthub.core.errors import GenerationConflict, NotFound, RateLimited
from agenthub.rag.manifest import Manifest
from agenthub.rag.merging import Rewriting
from agenthub.repositories.knowledge import merging, upkeep
from agenthub.repositories.knowledge.commits import KnowledgeCommits
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import LEASES, Leases
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.knowledge.restoring import Restores
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import EVERY_TENANT
from tests.repositories.knowledge.backends import Backend
from tests.repositories.knowledge.world import TENANT, World


@pytest.fixture
def world(backend: Backend) -> World:
    def fill(made: World) -> None:
        for number in range(8):
            made.add(f"d{number}", f"text {number}")

    return backend.world(fill)


def merge(world: World) -> Any:
    return Merges(world.storage, world.engine).merge(world.base)


def during_merge(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something after the merged segment was written and before it is committed."""

    def passed(name: str) -> None:
        if name == "merge.written":
            monkeypatch.setattr(merging, "failpoint", lambda _: None)
            act()

    monkeypatch.setattr(merging, "failpoint", passed)


def test_eight_segments_become_one_with_the_same_content(world: World) -> None:
    before = world.content()
    merged = merge(world)
    assert (merged.inputs, merged.chunk_count, world.segments) == (8, 8, 1)
    assert world.content() == before
    assert merge(world) is None


def test_what_was_deleted_is_left_out(world: World) -> None:
    world.delete("d3")
    assert merge(world).chunk_count == 7
    assert "d3" not in world.content()


def test_an_append_meanwhile_stays_and_nothing_is_written_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    during_merge(monkeypatch, lambda: world.add("new", "beside"))
    written: list[int] = []
    kind = type(world.engine.segments)
    plain: Any = kind.write

    def counted(*arguments: Any, **named: Any) -> Any:
        written.append(1)
        return plain(*arguments, **named)

    monkeypatch.setattr(kind, "write", counted)
    assert merge(world).inputs == 8
    assert world.segments == 2
    assert len(world.content()) == 9
    assert len(written) == 2  # the merged segment and the append


def test_a_delete_meanwhile_is_not_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    during_merge(monkeypatch, lambda: world.delete("d3"))
    assert merge(world).inputs == 8
    assert "d3" not in world.content()
    for number in range(7):
        world.add(f"more{number}", "x")
    merge(world)
    assert "d3" not in world.content()


def test_a_replacement_meanwhile_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    during_merge(monkeypatch, lambda: world.replace("d3", "other"))
    merge(world)
    assert world.content()["d3"] == ["other"]


def test_the_slower_of_two_merges_is_dropped_with_its_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    during_merge(monkeypatch, lambda: merge(world))
    assert merge(world) is None
    assert world.segments == 1
    segments = {name.split("/")[1] for name in world.volume.files(world.base_id) if name.startswith("segments/")}
    assert len(segments) == 9  # eight old ones that older generations need, one new
    assert world.storage.count(INTENTS, EVERY_TENANT) == 0


def _blind(plain: Any) -> Any:
    def applied(self: Rewriting, manifest: Manifest) -> Any:
        names = {entry.id for entry in self.inputs}
        inputs = tuple(entry for entry in manifest.segments if entry.id in names)
        return plain(replace(self, inputs=inputs, revoked=manifest.revoked), manifest)

    return applied


@pytest.mark.parametrize("checked", [True, False])
def test_what_a_restore_brings_back_meanwhile_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Told by their ids alone the inputs are still there, and the merged segment would lack the document that came back."""
    before = world.base.generation
    world.delete("d3")
    restores = Restores(world.storage, world.engine, Operation())
    during_merge(monkeypatch, lambda: restores.restore(world.base, before, lambda restored: restored))
    if not checked:
        monkeypatch.setattr(Rewriting, "applied", _blind(Rewriting.applied))
    merged = merge(world)
    assert (merged is None) is checked
    searcher = Snapshots(world.storage, world.engine).at(world.base)
    assert bool(searcher.document_chunks("d3")) is checked


def test_a_merge_into_a_deleted_knowledge_base_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    during_merge(monkeypatch, lambda: KnowledgeBaseRepository(world.storage).retire(TENANT, world.base_id))
    with pytest.raises(NotFound):
        merge(world)


def test_writers_that_win_every_race_do_not_starve_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    def publish(*arguments: Any, **named: Any) -> Any:
        attempts.append(1)
        if len(attempts) < 4:
            raise GenerationConflict("busy", retry_after_seconds=1)
        return plain(*arguments, **named)

    plain: Any = KnowledgeCommits.publish
    monkeypatch.setattr(KnowledgeCommits, "publish", publish)
    assert merge(world).inputs == 8
    assert len(attempts) == 4


def test_a_maintainer_that_was_given_up_is_fenced_off_by_its_inputs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Leases(world.storage, seconds=0)
    with slow.taken(world.base) as first:
        assert first is not None
        with Leases(world.storage).taken(world.base) as second:  # the first one's time is over
            assert second is not None
            assert not slow.renew(first)
            during_merge(monkeypatch, lambda: merge(world))
            assert merge(world) is None
    with Leases(world.storage).taken(world.base) as third:
        assert third is not None
    assert len(world.content()) == 8


def test_a_maintainer_at_work_renews_its_lease(world: World) -> None:
    with Leases(world.storage, seconds=0.03).taken(world.base) as lease:
        assert lease is not None
        seen, limit = set[object](), time.monotonic() + 120
        while len(seen) < 3 and time.monotonic() < limit:
            row = world.storage.get(LEASES, EVERY_TENANT, world.base_id)
            assert row is not None and row["fence"] == lease.fence
            seen.add(row["expires_at"])
        assert len(seen) == 3
    assert world.storage.get(LEASES, EVERY_TENANT, world.base_id) is None


def test_a_lease_keeps_others_out(world: World) -> None:
    with Leases(world.storage).taken(world.base) as first, Leases(world.storage).taken(world.base) as second:
        assert first is not None
        assert second is None


def test_a_refused_writer_sees_to_the_merging_that_a_dead_maintainer_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without commits nobody would look any more, and every writer would be refused for ever."""
    monkeypatch.setattr(upkeep, "BUSY_SEGMENTS", world.segments)
    thread = upkeep.UpkeepThread(upkeep.Upkeep(world.storage, world.engine, lambda base, texts: ()))
    limit = time.monotonic() + 120
    refused = 0
    while time.monotonic() < limit:
        try:
            thread.admit(world.base)
            break
        except RateLimited:
            refused += 1
    thread.close()
    assert refused >= 1 and world.segments == 1
