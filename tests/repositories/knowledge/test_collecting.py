"""Collecting with shrunk grace and a clock of our own: what is removed, and what never is (RELIABILITY.md T10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agenthub.core import failpoints
from agenthub.core.errors import GenerationConflict, VolumeUnavailable
from agenthub.core.ids import new_id
from agenthub.repositories.knowledge import collecting
from agenthub.repositories.knowledge.collecting import GARBAGE, Collector, Grace
from agenthub.repositories.knowledge.commits import INTENT_SECONDS
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import OPERATIONS, TOMBSTONES
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.knowledge.pruning import Pruner
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.storage.contract import EVERY_TENANT, Update
from agenthub.storage.memory import MemoryStorage
from tests.repositories.knowledge.backends import Backend, Handled, Hands
from tests.repositories.knowledge.world import TENANT, World

WEEK = 7 * 24 * 3600.0


@pytest.fixture
def world(backend: Backend, hands: Hands) -> World:
    """Eight documents, merged, nothing retained beyond the last two generations."""

    def fill(made: World) -> None:
        keep(made, generations=0, seconds=0)
        for number in range(8):
            made.add(f"d{number}", f"text {number}", original=b"bytes")
        assert Merges(made.storage, made.engine).merge(made.base)

    return backend.world(fill, hands)


def keep(world: World, **changes: int) -> None:
    named = {f"retained_{name}": value for name, value in changes.items()}
    world.storage.commit([Update(KnowledgeBaseRepository.table, TENANT, world.base_id, named)])


def collect(world: World, grace: Grace | None = None) -> Any:
    return Collector(world.storage, world.engine, grace).collect(world.base_id)


def segments(world: World) -> set[str]:
    return {name.split("/")[1] for name in world.volume.files(world.base_id) if name.startswith("segments/")}


def once(monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[], object]) -> None:
    """Do something the first time the collector comes to this step."""

    def passed(name: str) -> None:
        if name == step:
            monkeypatch.setattr(collecting, "failpoint", lambda _: None)
            act()

    monkeypatch.setattr(collecting, "failpoint", passed)


def test_a_folder_without_a_knowledge_base_goes_after_a_day(world: World, hands: Hands) -> None:
    other = World(world.storage, world.disk)
    other.engine.put_original(other.base_id, b"left behind")
    assert set(other.volume.knowledge_bases()) == {world.base_id, other.base_id}
    collect(other)
    hands.wait(24 * 3600 + 1)
    assert collect(other).removed == 1


def test_merged_segments_go_after_their_grace_and_not_before(world: World, hands: Hands) -> None:
    world.add("a", "b")
    world.add("c", "d")
    assert len(segments(world)) == 11
    assert collect(world).removed == 0  # still within the slack of readers
    hands.wait(2 * 3600)
    assert collect(world).marked > 0
    hands.wait(2 * 3600 - 60)
    assert collect(world).removed == 0
    hands.wait(120)
    assert collect(world).removed > 8 * (3 if world.milvus else 6)
    assert len(segments(world)) == 3
    assert len(world.content()) == 10
    assert world.engine.verify(world.base_id, world.base.pointer) == []


def test_retained_generations_keep_their_files(world: World, hands: Hands) -> None:
    keep(world, generations=1000, seconds=int(WEEK))
    before = world.volume.files(world.base_id)
    for _ in range(3):
        hands.wait(24 * 3600)
        assert collect(world).removed == 0
    assert world.volume.files(world.base_id) == before
    world.add("a", "b")
    hands.wait(WEEK + 5 * 3600)
    collect(world)
    hands.wait(25 * 3600)
    assert collect(world).removed > 0
    assert len(world.content()) == 9


def test_a_file_of_a_failed_write_waits_a_day(world: World, hands: Hands) -> None:
    orphan = world.engine.put_original(world.base_id, b"never published")
    collect(world)
    hands.wait(23 * 3600)
    collect(world)
    assert orphan.name in world.volume.files(world.base_id)
    hands.wait(3600)
    collect(world)
    assert orphan.name not in world.volume.files(world.base_id)
    assert world.storage.get(GARBAGE, EVERY_TENANT, f"{world.base_id}/{orphan.name}") is None


NOW = Grace(0, 0)


def test_a_writer_at_work_keeps_files_that_no_manifest_lists(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow writer: marked, past its grace, and still not taken, because its intent lives."""

    def collected(name: str) -> None:
        if name == "commit.before":
            collect(world, NOW)
            collect(world, NOW)

    monkeypatch.setattr("agenthub.repositories.knowledge.commits.failpoint", collected)

    world.add("slow", "written slowly", original=b"slow")
    assert world.content()["slow"] == ["written slowly"]
    assert world.engine.verify(world.base_id, world.base.pointer) == []


def test_a_zombie_past_its_intent_is_refused(world: World, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    def paused(name: str) -> None:
        if name == "commit.before":
            monkeypatch.setattr("agenthub.repositories.knowledge.commits.failpoint", lambda _: None)
            collect(world, NOW)
            hands.wait(INTENT_SECONDS + 1)
            assert collect(world, NOW).removed > 0

    monkeypatch.setattr("agenthub.repositories.knowledge.commits.failpoint", paused)
    monkeypatch.setattr("agenthub.repositories.knowledge.commits.time.sleep", lambda _: None)
    with pytest.raises(GenerationConflict):
        world.add("zombie", "too late")
    assert "zombie" not in world.content()
    assert world.engine.verify(world.base_id, world.base.pointer) == []


def test_what_is_committed_between_list_and_check_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("collect.listed", "collect.checking"):
        world.engine.put_original(world.base_id, b"something to remove")
        once(monkeypatch, step, lambda: world.add(new_id(), "meanwhile", original=b"x"))
        collect(world, NOW)
    collect(world, NOW)
    assert len(world.content()) == 10
    assert world.engine.verify(world.base_id, world.base.pointer) == []
    assert {document.original_name for document in world.documents()} <= set(world.volume.files(world.base_id))


def test_a_reader_whose_files_went_comes_to_the_newer_generation(world: World) -> None:
    slow = world.new_engine()
    snapshots = Snapshots(world.storage, slow)
    old = world.base
    for number in range(8):
        world.add(f"e{number}", "more")
    assert Merges(world.storage, world.engine).merge(world.base)
    world.add("after", "x")
    collect(world, NOW)
    collect(world, NOW)
    with pytest.raises(VolumeUnavailable):
        snapshots.at(old)
    base, searcher = snapshots.open(TENANT, world.base_id)
    assert searcher.chunk_count == base.chunk_count == 17


def test_foreign_files_are_never_touched(world: World) -> None:
    path = (world.base_id, "segments", "notes.txt")
    world.disk.contents[path] = bytearray(b"mine")
    KnowledgeBaseRepository(world.storage).retire(TENANT, world.base_id)
    for _ in range(2):
        collect(world, NOW)
    assert world.volume.files(world.base_id) == []
    assert path in world.disk.contents


def test_a_deleted_knowledge_base_goes_with_its_rows(world: World, hands: Hands) -> None:
    KnowledgeBaseRepository(world.storage).retire(TENANT, world.base_id)
    collect(world)
    hands.wait(2 * 3600 + 1)
    collect(world)
    assert world.volume.files(world.base_id) == []
    assert {world.storage.count(table, EVERY_TENANT) for table in (OPERATIONS, TOMBSTONES, DOCUMENT_HISTORY, GARBAGE)} == {0}
    assert world.storage.get(KnowledgeBaseRepository.table, EVERY_TENANT, world.base_id)


def test_nothing_is_removed_while_a_held_generation_cannot_be_read(world: World) -> None:
    orphan = world.engine.put_original(world.base_id, b"never published")
    world.engine.close()
    path = next(path for path in world.disk.contents if path[1] == "manifests" and path[2].startswith(f"{world.base.generation}-"))
    world.disk.contents[path][10] ^= 1
    with pytest.raises(VolumeUnavailable):
        collect(world, NOW)
    assert orphan.name in world.volume.files(world.base_id)


@pytest.mark.many_commits
def test_tombstones_go_when_nothing_that_is_held_shows_what_they_hide(world: World, hands: Hands) -> None:
    world.delete("d1")
    pruner = Pruner(world.storage, world.engine, slack_seconds=7200)
    assert pruner.prune(world.base).tombstones == 0
    for number in range(8):
        world.add(f"e{number}", "more")
    merged = Merges(world.storage, world.engine)
    while merged.merge(world.base):
        pass
    assert "d1" not in world.content()
    assert pruner.prune(world.base).tombstones == 0  # the generation before still shows d1's segment
    for number in range(8):
        world.add(f"f{number}", "more")
    while merged.merge(world.base):
        pass
    world.add("last", "x")
    hands.wait(3 * 3600)
    before = world.content()
    pruned = pruner.prune(world.base)
    assert (pruned.tombstones, pruned.history) == (1, 1)
    assert world.content() == before


def test_records_of_writes_outlive_repeats_and_erasures_stay(world: World, hands: Hands) -> None:
    pruner = Pruner(world.storage, world.engine, slack_seconds=7200)
    hands.wait(3 * 3600)
    assert pruner.prune(world.base).operations == 0
    hands.wait(8 * 24 * 3600)
    assert pruner.prune(world.base).operations > 0
    assert len(world.content()) == 8


@pytest.mark.parametrize("step", ["milvus.insert", "milvus.inserted", "segment.header", "commit.before"])
def test_rows_of_a_writer_that_died_go_with_the_files_that_announced_them(hands: Hands, step: str) -> None:
    world = World(Handled(MemoryStorage(), hands), milvus=True).create()
    world.add("kept", "text")
    try:
        failpoints.arm(f"{step}=error")
        with pytest.raises((failpoints.Failpoint, VolumeUnavailable)):
            world.add("lost", "one", "two")
    finally:
        failpoints.arm("")
    assert list(world.content()) == ["kept"]
    hands.wait(INTENT_SECONDS + 1)
    for _ in range(2):
        collect(world, NOW)
    assert len(world.rows()) == 1
    assert len(segments(world)) == 1
    assert world.engine.verify(world.base_id, world.base.pointer) == []
