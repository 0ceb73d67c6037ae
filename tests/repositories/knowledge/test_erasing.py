"""Erasing over the real repositories: every byte on the volume is looked at (the whole way through HTTP: tests/system)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agenthub.core import failpoints
from agenthub.core.errors import Conflict, NotFound, NotRetained, VolumeUnavailable
from agenthub.core.ids import new_id, random_name
from agenthub.rag.chunks import encode_chunks
from agenthub.rag.segment import Chunk
from agenthub.repositories.knowledge.commits import INTENT_SECONDS
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY
from agenthub.repositories.knowledge.erasing import EraseRequests, Erasure, ErasureRepository
from agenthub.repositories.knowledge.expunging import Expunger
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS, PINS
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import EVERY_TENANT, DbNow, Delete, Insert, Query
from tests.repositories.knowledge.backends import Backend
from tests.repositories.knowledge.world import TENANT, World, vector_of

SECRET = "zanzibarquince"
FIRST = "an earlier tamarillofig text"


class Cache:
    """Remembers what it was told to forget."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def __call__(self, _base: KnowledgeBase, texts: Sequence[str]) -> tuple[str, ...]:
        self.forgotten += texts
        return ("an entry somewhere",)


@pytest.fixture
def world(backend: Backend) -> World:
    return backend.world(fill)


def fill(made: World) -> None:
    """A secret document that was replaced once, among others, some of it merged."""
    made.add("kept", "harmless")
    made.add("secret", FIRST, original=b"original tamarillofig")
    for number in range(6):
        made.add(f"d{number}", f"text {number}")
    assert Merges(made.storage, made.engine).merge(made.base)
    made.replace("secret", f"the {SECRET} text", "and another")


def request(world: World, key: str = "secret") -> Erasure:
    erasure: Erasure = EraseRequests(world.storage, world.engine, Operation()).request(world.base, key, lambda erasure: erasure)
    return ErasureRepository(world.storage).get(TENANT, erasure.id)


def finish(world: World, erasure: Erasure, cache: Cache | None = None) -> bool:
    return Expunger(world.storage, world.engine, cache or Cache()).finish(world.base, erasure)


def places(world: World, *needles: bytes) -> list[Any]:
    places: list[Any] = list(world.disk.contents.items())
    places += enumerate(world.rows()) if world.milvus else []
    return [place for place, data in places if any(needle in data for needle in needles)]


def traces(world: World) -> list[Any]:
    vectors = [vector_of(text) for text in (FIRST, f"the {SECRET} text", "and another")]
    units = [(vector / (vector**2).sum() ** 0.5).astype("<f4").tobytes() for vector in vectors]
    return places(world, SECRET.encode(), b"tamarillofig", *(vector.astype("<f4").tobytes() for vector in vectors), *units)


def test_a_writer_from_before_is_waited_for(world: World) -> None:
    row = {"id": random_name(), "tenant_id": TENANT, "knowledge_base_id": world.base_id, "fence": "f", "expires_at": DbNow(3000)}
    world.storage.commit([Insert(INTENTS, row)])
    erasure = request(world)
    assert not finish(world, erasure)
    assert "secret" not in world.content()


def test_an_erased_document_is_nowhere_on_the_volume(world: World) -> None:
    assert len(traces(world)) >= 5
    cache = Cache()
    erasure = request(world)
    assert "secret" not in world.content()  # hidden at once
    assert world.storage.count(DOCUMENT_HISTORY, EVERY_TENANT) == 0
    assert finish(world, erasure, cache)
    assert traces(world) == []
    assert sorted(world.content()) == ["d0", "d1", "d2", "d3", "d4", "d5", "kept"]
    assert f"the {SECRET} text" in cache.forgotten
    receipt = ErasureRepository(world.storage).get_in(TENANT, world.base_id, erasure.id)
    assert receipt.state == "done"
    assert receipt.completed_at
    assert {place["found"] for place in receipt.report["places"]} == {0}
    assert receipt.report["remains"]
    assert world.engine.verify(world.base_id, world.base.pointer) == []


def test_no_older_generation_can_be_read_or_brought_back(world: World) -> None:
    before = world.base.generation
    finish(world, request(world))
    with pytest.raises(NotRetained):
        History(world.storage).get(TENANT, world.base_id, before)


def test_hiding_needs_no_disk_and_the_rest_follows_when_there_is_some(world: World) -> None:
    world.disk.full = True
    erasure = request(world)
    assert "secret" not in world.content()
    world.disk.full = False
    assert finish(world, erasure)
    assert traces(world) == []


def test_it_is_finished_by_whoever_comes_after_a_crash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    erasure = request(world)
    for step in ("erase.rewritten", "erase.removed", "erase.shredded"):

        def killed(name: str, step: str = step) -> None:
            if name == step:
                raise Killed

        monkeypatch.setattr("agenthub.repositories.knowledge.expunging.failpoint", killed)
        with pytest.raises(Killed):
            finish(world, erasure)
    monkeypatch.undo()
    assert [one.id for one in ErasureRepository(world.storage).unfinished(TENANT, world.base_id)] == [erasure.id]
    assert finish(world, erasure)
    assert traces(world) == []


def test_others_that_speak_of_the_document_stay_and_it_is_finished(backend: Backend) -> None:
    world = backend.world(fill)
    key = new_id()
    world.add(key, f"the {SECRET} text")
    world.add("log", f'Somebody read {{"document_id":"{key}","text":"x"}}.')
    while Merges(world.storage, world.engine).merge(world.base):
        pass
    world.add("another log", f"{key} was read again")
    erasure = request(world, key)
    assert finish(world, erasure)
    assert key not in world.content()
    assert {"log", "another log", "secret"} <= set(world.content())
    kinds = [row["kind"] for row in world.storage.find(OPERATIONS, TENANT, Query(limit=100))]
    assert kinds.count("erase") == 2, "one hides it, one takes it out of its segment"


@pytest.mark.many_commits
def test_what_is_half_removed_is_removed_by_whoever_comes_after(backend: Backend) -> None:
    """The file that names the document may be gone already, and others that have its words not."""
    for step in range(1, 60):
        world = backend.world(fill)
        erasure = request(world)
        failpoints.arm(f"volume.remove=error@{step}")
        try:
            done = finish(world, erasure)
        except VolumeUnavailable:
            done = False
        failpoints.arm("")
        assert done or finish(world, erasure)
        assert traces(world) == []
        if done:
            break
    assert done and step > 6


def test_what_a_killed_merge_left_goes_too(world: World) -> None:
    left = world.engine.write_segment(world.base_id, *samples(), signature="test;dimension=4;metric=cosine", language="english")
    assert left.chunk_count == 1
    finish(world, request(world))
    assert traces(world) == []


def leave(world: World) -> None:
    """What a writer leaves that is killed before its segment has a header: vectors, and chunks of a document that never was."""
    segment_id = random_name()
    world.volume.put_new(world.base_id, f"segments/{segment_id}/vectors.f32", vector_of(f"the {SECRET} text").astype("<f4").tobytes())
    world.volume.put_new(world.base_id, f"segments/{segment_id}/chunks.jsonl", encode_chunks([Chunk("y", "another", SECRET, {})]))
    world.engine.put_original(world.base_id, b"original tamarillofig")


def begin(world: World, seconds_ago: float) -> str:
    """A writer that began so long ago and is at work."""
    key, expiry = random_name(), DbNow(INTENT_SECONDS - seconds_ago)
    row = {"id": key, "tenant_id": TENANT, "knowledge_base_id": world.base_id, "fence": "f", "expires_at": expiry}
    world.storage.commit([Insert(INTENTS, row)])
    return key


def end(world: World, key: str) -> None:
    world.storage.commit([Delete(INTENTS, TENANT, key)])


def waits_for(world: World, erasure: Erasure) -> str:
    now = ErasureRepository(world.storage).get(TENANT, erasure.id)
    assert now.state == "hidden"
    return " ".join(now.report["waits_for"])


def finish_again(world: World, erasure: Erasure) -> bool:
    return finish(world, ErasureRepository(world.storage).get(TENANT, erasure.id))


def test_what_killed_writers_left_goes_beside_living_ones(world: World) -> None:
    """No writer is ever alone here: each begins before the one before it ends."""
    killed = begin(world, 60)
    leave(world)
    erasure = request(world)
    assert not finish_again(world, erasure)
    assert "began before the request" in waits_for(world, erasure)

    end(world, killed)  # its time is over
    first = begin(world, 0)
    assert not finish_again(world, erasure)
    assert "no generation lists" in waits_for(world, erasure)
    assert traces(world)

    second = begin(world, 0)
    world.engine.put_original(world.base_id, b"what the second writer is about to commit")
    assert not finish_again(world, erasure)  # the first may still be the owner
    end(world, first)
    assert finish_again(world, erasure)
    assert traces(world) == []
    assert places(world, b"about to commit"), "a living writer's file was taken"
    end(world, second)
    receipt = ErasureRepository(world.storage).get(TENANT, erasure.id)
    assert receipt.state == "done" and "waits_for" not in receipt.report
    assert {place["found"] for place in receipt.report["places"]} == {0}


def test_without_writers_it_is_done_at_once_with_what_was_left(world: World) -> None:
    leave(world)
    assert finish(world, request(world))
    assert traces(world) == []


def test_a_merge_that_read_before_the_request_and_begins_after_it_copies_nothing(world: World) -> None:
    """The erasure, which may be done by then, never saw its intent."""
    for number in range(8):
        world.add(f"more{number}", f"more text {number}")
    before = world.base
    manifest = world.engine.read_manifest(before.id, before.pointer)
    assert finish(world, request(world))
    files = world.volume.files(world.base_id)
    assert Merges(world.storage, world.engine).rewrite(before, manifest, manifest.segments) is None
    assert world.volume.files(world.base_id) == files
    assert world.storage.count(INTENTS, EVERY_TENANT) == 0


def samples() -> tuple[Any, Any]:

    return [Chunk("x", "secret", SECRET, {})], vector_of(SECRET)[None]


def test_a_named_snapshot_has_to_go_first(world: World) -> None:
    base = world.base
    row = {
        "id": new_id(),
        "tenant_id": TENANT,
        "knowledge_base_id": base.id,
        "name": "before launch",
        "name_key": "before launch",
        "generation": base.generation,
        "epoch": base.epoch,
        "manifest_name": base.manifest_name,
        "manifest_sha256": base.manifest_sha256,
        "manifest_length_bytes": base.manifest_length_bytes,
        "document_count": 1,
        "chunk_count": 1,
        "size_bytes": 1,
        "created_by": None,
        "created_at": DbNow(),
        "expires_at": None,
    }
    world.storage.commit([Insert(PINS, row)])
    with pytest.raises(Conflict, match="before launch"):
        request(world)
    assert "secret" in world.content()


def test_a_deleted_document_can_be_erased_and_an_unknown_one_not(world: World) -> None:
    world.delete("secret")
    assert finish(world, request(world))
    assert traces(world) == []
    with pytest.raises(NotFound):
        request(world, "secret")
