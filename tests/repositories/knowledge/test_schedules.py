"""Writers, maintainers and readers in every order; and that each safeguard, switched off, is missed (RELIABILITY.md T9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agenthub.core.errors import GenerationConflict
from agenthub.rag.manifest import Manifest, SegmentEntry
from agenthub.rag.merging import Rewriting
from agenthub.repositories.knowledge import collecting, commits, snapshots
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.storage.contract import ALL, Delete, Row, Write
from tests.repositories.knowledge.backends import Backend, Hands, Passing
from tests.repositories.knowledge.schedules import Run, explore
from tests.repositories.knowledge.test_collecting import NOW, collect, keep

SCHEDULES = 1_000
TORTURE = 10_000
PART = 250
SOME = 5


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries only take time: the schedule says who goes on."""
    for module in (commits, snapshots):
        monkeypatch.setattr(module.time, "sleep", lambda _: None)


@pytest.mark.parametrize("heeded", [True, False])
def test_a_collector_that_ignores_writers_takes_their_files(backend: Backend, heeded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    world = backend.world(lambda _: None)
    if not heeded:
        monkeypatch.setattr(collecting, "_may_be_his", lambda *_: False)

    def collected(name: str) -> None:
        if name == "commit.before":
            collect(world, NOW)

    monkeypatch.setattr(commits, "failpoint", collected)
    world.add("slow", "written slowly")
    sound = not world.engine.verify(world.base_id, world.base.pointer)
    assert sound is heeded


@pytest.mark.parametrize("first", range(0, SCHEDULES, PART))
def test_every_generation_shows_what_was_acknowledged(first: int) -> None:
    assert explore(range(first, first + PART)) == []


@pytest.mark.torture
@pytest.mark.parametrize("first", range(SCHEDULES, SCHEDULES + TORTURE, PART))
def test_every_generation_shows_what_was_acknowledged_in_many_more_schedules(first: int) -> None:
    assert explore(range(first, first + PART)) == []


@pytest.mark.parametrize("first", [0, pytest.param(SOME, marks=pytest.mark.torture), pytest.param(2 * SOME, marks=pytest.mark.torture)])
def test_every_generation_shows_what_was_acknowledged_on_every_storage(backend: Backend, first: int) -> None:
    assert explore(range(first, first + SOME), backend) == []


def test_a_seed_is_a_schedule() -> None:
    def trace(seed: int) -> list[tuple[int, str]]:
        run = Run(seed)
        run.go()
        return [(generation, kind) for generation, kind, _, _ in run.acknowledged]

    assert trace(11) == trace(11)


# --- switched off, one at a time ---


def until_missed(most: int = 3 * SCHEDULES) -> bool:
    """Whether some schedule shows that something is wrong."""
    return any(explore(range(first, first + 20)) for first in range(0, most, 20))


def applied_with(change: Callable[[Rewriting, Manifest, Any], Any]) -> Callable[[Rewriting, Manifest], Any]:
    plain = Rewriting.applied
    return lambda self, manifest: change(self, manifest, plain)


def test_a_merge_that_covers_its_commit_brings_deleted_documents_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def stamped(self: Rewriting, manifest: Manifest, plain: Any) -> Any:
        return plain(replace(self, generation=manifest.generation + 1), manifest)

    monkeypatch.setattr(Rewriting, "applied", applied_with(stamped))
    assert until_missed()


def test_an_append_that_covers_what_it_read_is_hidden_by_its_own_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Manifest.successor

    def stamped(self: Manifest, *, added: Sequence[SegmentEntry] = (), generation: int | None = None, **more: Any) -> Manifest:
        made = plain(self, added=added, generation=generation, **more)
        count = len(made.segments) - len(added)
        late = [replace(entry, covers_generation=entry.covers_generation - 1) for entry in made.segments[count:]]
        return replace(made, segments=(*made.segments[:count], *late))

    monkeypatch.setattr(Manifest, "successor", stamped)
    assert until_missed()


def test_a_merge_that_does_not_look_for_its_inputs_doubles_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: Rewriting, manifest: Manifest, plain: Any) -> Any:
        present = tuple(entry for entry in self.inputs if entry in manifest.segments)
        if not present:
            added = () if self.output is None else (replace(self.output, covers_generation=self.generation),)
            return (*manifest.segments, *added)
        return plain(replace(self, inputs=present, revoked=manifest.revoked), manifest)

    monkeypatch.setattr(Rewriting, "applied", applied_with(blind))
    assert until_missed()


class Unfenced(Passing):
    """A database that lets a writer commit whose intent has run out or is gone."""

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        return super().commit([_unfenced(write) for write in writes])


def _unfenced(write: Write) -> Write:
    if isinstance(write, Delete) and write.table is INTENTS:
        return replace(write, where=ALL, missing_ok=True)
    return write


@pytest.mark.parametrize("fenced", [True, False])
def test_without_the_fence_a_zombie_commits_files_that_are_gone(
    backend: Backend, hands: Hands, fenced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = backend.world(lambda made: keep(made, generations=0, seconds=0), hands)
    if not fenced:
        world.storage = Unfenced(world.storage)

    def paused(name: str) -> None:
        if name == "commit.before":
            monkeypatch.setattr(commits, "failpoint", lambda _: None)
            collect(world, NOW)
            hands.wait(timedelta(hours=2).total_seconds())
            collect(world, NOW)

    monkeypatch.setattr(commits, "failpoint", paused)
    try:
        world.add("zombie", "too late")
    except GenerationConflict:
        assert fenced
    sound = not world.engine.verify(world.base_id, world.base.pointer)
    assert sound is fenced
