"""Moves to another model over the real repositories, on every backend: pieces, resuming, what is reused, who waits and what is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from agenthub.core.errors import Conflict, LeaseLost, ModelMoved, ProviderFailure
from agenthub.repositories.knowledge import shadows, switching
from agenthub.repositories.knowledge.collecting import Collector, Grace
from agenthub.repositories.knowledge.commits import KnowledgeCommits
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.knowledge.reembeddings import MIRRORS, ReembeddingRepository, mirrors_of
from agenthub.repositories.knowledge.retention import Retention
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Compare, DbNow, Update
from agenthub.storage.memory import MemoryStorage
from tests.repositories.knowledge.backends import Backend, Hands, backend_of
from tests.repositories.knowledge.moving import Mover
from tests.repositories.knowledge.world import TENANT, World, signature_of, vector_of


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql", pytest.param("bigquery", marks=pytest.mark.torture)])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with backend_of(request, request.param, tmp_path_factory) as backend:
        yield backend


@pytest.fixture
def mover(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Mover:
    """A knowledge base of five documents, and pieces of two rows."""
    monkeypatch.setattr(shadows, "PIECE_ROWS", 2)
    monkeypatch.setattr(shadows, "BATCH_TEXTS", 1)
    world = World(MemoryStorage(), model="four").create()
    world.add("large", *(f"line {number}" for number in range(5)))
    for number in range(4):
        world.add(f"d{number}", f"text {number}")
    world.storage = backend.moved(world.storage, Hands())
    return Mover(world)


def state(mover: Mover) -> tuple[str, int, int]:
    row = ReembeddingRepository(mover.storage).newest(mover.world.base)
    return row.state, row.embedded_count, row.reused_count


def sound(mover: Mover, model: str) -> bool:
    """Whether the row and every vector of the current generation are of that model."""
    base, engine = mover.world.base, mover.world.new_engine()
    manifest = engine.read_manifest(base.id, base.pointer)
    dimension = {"four": 4, "three": 3}[model]
    assert (base.embedding_model, base.dimension, base.held_until) == (model, dimension, None)
    assert base.signature == manifest.signature == signature_of(model, dimension).text
    rows = [rows for entry in manifest.segments for rows in engine.segments.rows(base.id, entry)]
    pairs = [pair for part in rows for pair in zip(part.chunks, part.vectors, strict=True)]
    cosines = [float(v @ (w := vector_of(c.searched_text, dimension))) / float(w @ w) ** 0.5 for c, v in pairs]
    return engine.verify(base.id, base.pointer) == [] and all(cosine > 0.999 for cosine in cosines)


def test_a_shadow_is_built_beside_and_switched_to(mover: Mover) -> None:
    before, segments = mover.world.content(), mover.world.segments
    mover.start("three")
    mover.work_off()
    assert state(mover) == ("ready", 9, 0)
    assert (mover.world.base.embedding_model, mover.world.content()) == ("four", before)
    assert mover.requests.standing().missing_chunks == 0
    mover.switch()
    mover.work_off()
    assert state(mover) == ("switched", 9, 0)
    assert (sound(mover, "three"), mover.world.content(), mover.world.segments) == (True, before, segments)
    assert not mirrors_of(mover.storage, mover.world.base)


def test_pieces_that_were_noted_are_not_made_again(mover: Mover) -> None:
    asked: list[str] = []

    def dying(texts: Sequence[str]) -> None:
        asked.extend(texts)
        if len(asked) in (4, 8):
            raise ProviderFailure("not now")

    mover.start("three")
    mover.models.three.before = dying
    for _ in range(2):
        with pytest.raises(ProviderFailure):
            mover.work()
    mover.work_off()
    assert state(mover)[0] == "ready"
    assert len(asked) == 9 + 3, "of a piece that was given up at most the piece's own rows are asked for twice"
    joined = mirrors_of(mover.storage, mover.world.base)
    assert sorted(one.row_count for one in joined) == [1, 1, 1, 1, 5], "pieces of one segment are joined"
    folders = {path[2] for path in mover.world.disk.contents if path[1] == "segments" and path[0] == mover.world.base_id}
    assert len(folders) == 5 + 5, "and those they were made of are removed"


def test_what_is_written_meanwhile_is_there_in_the_end(mover: Mover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "HOLD_SECONDS", 0.1)  # so small a shadow is built within the switch: these writers wait for the clock
    writes: Iterator[Callable[[], int]] = iter(
        [
            lambda: mover.world.add("new", "added meanwhile"),
            lambda: mover.world.delete("d1"),
            lambda: mover.world.replace("large", "one line"),
            lambda: mover.world.replace("d2", "replaced meanwhile"),
        ]
    )

    def busy(_: Sequence[str]) -> None:
        for write in writes:
            write()
            return

    mover.models.three.before = busy
    mover.start("three", auto_switch=True)
    mover.work_off()
    wanted = {
        "d0": ["text 0"],
        "d2": ["replaced meanwhile"],
        "d3": ["text 3"],
        "large": ["one line"],
        "new": ["added meanwhile"],
    }
    assert (state(mover)[0], sound(mover, "three"), mover.world.content()) == ("switched", True, wanted)


def test_a_shadow_is_ready_beside_writers_who_never_rest(mover: Mover, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, fills = shadows.Shadow.fill, list[int]()

    def overtaken(shadow: shadows.Shadow, over: shadows.Over) -> None:
        fill(shadow, over)
        fills.append(mover.world.add(f"late {len(fills)}", "written the moment the shadow was complete"))
        assert len(fills) < 5, "it waits for writers to rest"

    monkeypatch.setattr(shadows.Shadow, "fill", overtaken)
    mover.start("three")
    mover.work_off()
    assert (state(mover)[0], mover.requests.standing().missing_chunks) == ("ready", 1)
    monkeypatch.setattr(shadows.Shadow, "fill", fill)  # in a switch writers wait
    mover.switch()
    mover.work_off()
    assert (state(mover)[0], sound(mover, "three"), len(mover.world.content())) == ("switched", True, 5 + len(fills))


def test_merging_and_restoring_embed_nothing_again(mover: Mover) -> None:
    mover.start("three")
    mover.work_off()
    generation = mover.world.base.generation
    assert Merges(mover.storage, mover.engine).merge(mover.world.base, at_rest=True)
    mover.world.delete("d0")
    assert mover.requests.standing().missing_chunks == 9
    mover.switch()
    mover.work_off()
    assert state(mover) == ("switched", 9, 8)
    assert (sound(mover, "three"), sorted(mover.world.content())) == (True, ["d1", "d2", "d3", "large"])
    assert generation < mover.world.base.generation


def test_rolling_back_embeds_what_was_written_since_and_no_more(mover: Mover) -> None:
    mover.start("three", auto_switch=True)
    mover.work_off()
    mover.world.add("since", "written since")
    mover.world.delete("d3")
    mover.roll_back()
    mover.work_off()
    assert state(mover) == ("switched", 1, 8)
    assert (sound(mover, "four"), mover.models.four.embedded) == (True, ["written since"])
    assert sorted(mover.world.content()) == ["d0", "d1", "d2", "large", "since"]
    rows = ReembeddingRepository(mover.storage).page(TENANT, where=Compare("knowledge_base_id", "eq", mover.world.base_id)).items
    assert [row.state for row in rows] == ["switched", "rolled_back"]
    pins = list(Retention(mover.storage).pins(mover.world.base))
    assert [pin.id for pin in pins] == [rows[0].pin_id], "the pin of what is current again is given up"


def test_the_past_is_in_the_model_of_its_time(mover: Mover) -> None:
    mover.start("three", auto_switch=True)
    mover.work_off()
    first = mover.world.base.generation
    mover.roll_back()
    mover.work_off()
    last, rows = mover.world.base, ReembeddingRepository(mover.storage)
    models = [rows.row_at(replace(last, generation=number)).embedding_model for number in range(first - 1, last.generation + 1)]
    assert models == ["four", "three", "four"]


def test_a_writer_that_embedded_for_the_other_model_is_told(mover: Mover) -> None:
    commits, base = KnowledgeCommits(mover.storage, mover.engine, Operation()), mover.world.base
    mover.start("three", auto_switch=True)
    mover.work_off()
    entry = mover.engine.read_manifest(base.id, base.pointer).segments[0]
    with pytest.raises(ModelMoved):
        commits.publish(base, [entry], lambda *_: None)  # type: ignore[arg-type]


def test_writers_wait_while_a_switch_holds_the_knowledge_base(mover: Mover) -> None:
    base, done, told = mover.world.base, threading.Event(), list[ModelMoved]()

    def write() -> None:
        try:
            mover.world.add("patient", "it waited")
        except ModelMoved as error:
            told.append(error)
        done.set()

    hold = Update(KnowledgeBaseRepository.table, TENANT, base.id, {"held_until": DbNow(600)})
    mover.storage.commit([hold])
    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert not done.wait(0.3)
        mover.start("three", auto_switch=True)
        mover.work_off()  # the holder passes, and lets go
    finally:
        mover.storage.commit([replace(hold, changes={"held_until": None})])
        writer.join(300)
    assert done.is_set()
    assert len(told) == 1, "its vectors are of the model that was left"
    assert (sound(mover, "three"), "patient" in mover.world.content()) == (True, False)
    mover.world.add("patient", "it waited")
    assert sound(mover, "three")


def test_a_runner_that_died_in_a_switch_keeps_writers_waiting_for_seconds_only(mover: Mover) -> None:
    assert 0 < switching.HOLD_SECONDS <= 10
    past = Update(KnowledgeBaseRepository.table, TENANT, mover.world.base_id, {"held_until": DbNow(-1)})
    mover.storage.commit([past])
    mover.world.add("after", "written")
    assert "after" in mover.world.content()


def test_a_failed_switch_lets_writers_go_on(mover: Mover, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise ProviderFailure("in the midst of it")

    mover.start("three")
    mover.work_off()
    mover.switch()
    monkeypatch.setattr(switching, "failpoint", broken)
    with pytest.raises(ProviderFailure):
        mover.work()
    assert (mover.world.base.held_until, mover.world.base.embedding_model) == (None, "four")
    monkeypatch.undo()
    mover.work_off()
    assert sound(mover, "three")


def test_the_collector_leaves_shadows_alone_and_takes_what_is_given_up(mover: Mover) -> None:
    def collect() -> None:
        for _ in range(2):
            Collector(mover.storage, mover.engine, Grace(0.0, 0.0)).collect(mover.world.base_id)

    live = set(mover.world.disk.contents)
    mover.start("three")
    mover.work_off()
    built = set(mover.world.disk.contents)
    collect()
    assert set(mover.world.disk.contents) == built, "nothing lists them but their rows"
    monkeypatched = mover.engine.discard_segment
    mover.engine.discard_segment = lambda *_: None  # type: ignore[method-assign]
    mover.requests.cancel()
    mover.engine.discard_segment = monkeypatched  # type: ignore[method-assign]
    assert set(mover.world.disk.contents) == built
    collect()
    assert set(mover.world.disk.contents) == live
    assert not mover.storage.count(MIRRORS, TENANT, Compare("knowledge_base_id", "eq", mover.world.base_id))


def test_cancelling_takes_the_shadow_out_of_the_runners_hands(mover: Mover) -> None:
    def cancelled(_: Sequence[str]) -> None:
        mover.models.three.before = None
        mover.requests.cancel()

    mover.models.three.before = cancelled
    mover.start("three", auto_switch=True)
    with pytest.raises(LeaseLost):
        mover.work()
    mover.work_off()
    assert (state(mover)[0], mover.world.base.embedding_model) == ("cancelled", "four")
    assert not mirrors_of(mover.storage, mover.world.base)
    mover.start("three", auto_switch=True)
    mover.work_off()
    assert sound(mover, "three")


def test_in_milvus_it_is_refused() -> None:
    mover = Mover(World(milvus=True, model="four").create())
    with pytest.raises(Conflict, match="Milvus"):
        mover.start("three")


def test_only_one_at_a_time(mover: Mover) -> None:
    mover.start("three")
    with pytest.raises(Conflict):
        mover.start("three")
    mover.work_off()


def test_a_deleted_knowledge_base_takes_its_moves_along(mover: Mover) -> None:
    mover.start("three")
    mover.work_off()
    KnowledgeBaseRepository(mover.storage).retire(TENANT, mover.world.base_id)
    for _ in range(3):
        Collector(mover.storage, mover.engine, Grace(0.0, 0.0)).collect(mover.world.base_id)
    mine = Compare("knowledge_base_id", "eq", mover.world.base_id)
    assert (mover.storage.count(MIRRORS, TENANT, mine), mover.storage.count(ReembeddingRepository.table, TENANT, mine)) == (0, 0)
