"""Interleaves writers, maintainers and readers at the steps of the commit protocol, over the real repositories (RELIABILITY.md T9).

Every actor is a thread that stops before each question to the database and each change of it, and before each file that it makes or
removes. One at a time goes on, chosen by a seeded generator: a seed is a schedule and can be replayed. After each schedule what
every generation shows is compared with a model that replays the acknowledged operations in the order of their generations.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agenthub.core.errors import AgentHubError, AlreadyExists, Conflict, GenerationConflict, MissingFile, NotFound
from agenthub.core.ids import new_id
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.repositories.knowledge.collecting import Collector, Grace
from agenthub.repositories.knowledge.erasing import EraseRequests, ErasureRepository
from agenthub.repositories.knowledge.expunging import Expunger
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import OPERATIONS
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.knowledge.pruning import Pruner
from agenthub.repositories.knowledge.reembeddings import MIRRORS, ReembeddingRepository
from agenthub.repositories.knowledge.restoring import Restores
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Query, Row, Storage, Table, TenantScope, Write
from agenthub.storage.memory import MemoryStorage
from tests.repositories.knowledge.backends import Backend, Hands, Passing
from tests.repositories.knowledge.moving import Mover
from tests.repositories.knowledge.world import TENANT, MemoryDisk, World, signature_of, vector_of

SLACK: Final = 0.0
Content = Mapping[str, tuple[str, ...]]


class Cancelled(BaseException):
    """The schedule is over."""


class Director:
    """Lets one actor go on at a time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._patience = self._random.choice((0.0, 0.5, 0.95))  # how likely an actor goes on: long runs find what needs a whole act
        self._turns: dict[int, threading.Semaphore] = {}
        self._waiting: set[int] = set()
        self._back = threading.Semaphore(0)
        self._mine = threading.local()

    def step(self) -> None:
        """Called by an actor: stop here until chosen."""
        number = getattr(self._mine, "number", None)
        if number is None:
            return
        self._waiting.add(number)
        self._back.release()
        self._turns[number].acquire()

    def run(self, actors: Sequence[Callable[[], None]]) -> None:
        """Run the actors to their ends, interleaved."""
        threads = [threading.Thread(target=self._act, args=(number, actor)) for number, actor in enumerate(actors)]
        for number, thread in enumerate(threads):
            self._turns[number] = threading.Semaphore(0)
            thread.start()
            self._back.acquire()
        number = -1
        while self._waiting:
            if number not in self._waiting or self._random.random() >= self._patience:
                number = self._random.choice(sorted(self._waiting))
            self._waiting.discard(number)
            self._turns[number].release()
            self._back.acquire()
        for thread in threads:
            thread.join()

    def _act(self, number: int, actor: Callable[[], None]) -> None:
        self._mine.number = number
        self.step()
        try:
            actor()
        finally:
            self._back.release()


class SteppingDisk(MemoryDisk):
    """A disk in memory that stops actors before files are made or removed."""

    def __init__(self, director: Director) -> None:
        super().__init__()
        self._director = director

    def create(self, folder: int, name: str) -> int:
        self._director.step()
        return super().create(folder, name)

    def remove_file(self, folder: int, name: str) -> None:
        self._director.step()
        super().remove_file(folder, name)


class SteppingStorage(Passing):
    """A storage that stops actors before rows are read or changed."""

    def __init__(self, director: Director, inner: Storage) -> None:
        super().__init__(inner)
        self._director = director

    def get(self, table: Table, tenant: TenantScope, key: str) -> Row | None:
        self._director.step()
        return super().get(table, tenant, key)

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        self._director.step()
        return super().find(table, tenant, query)

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        self._director.step()
        return super().commit(writes)


@dataclass
class Run:
    """One schedule: what is acknowledged, and what readers see."""

    seed: int
    backend: Backend | None = None
    acknowledged: list[tuple[int, str, str, tuple[str, ...]]] = field(default_factory=list)  # generation, kind, document, texts
    problems: list[str] = field(default_factory=list)
    again: World | None = None

    def __post_init__(self) -> None:
        self.director = Director(self.seed)
        self.world = World(SteppingStorage(self.director, MemoryStorage()), SteppingDisk(self.director), model="four").create()
        self.random = random.Random(self.seed * 31 + 7)
        for number in range(6):
            text = f"t{new_id()}"
            self.note(self.world.add(f"d{number}", text), "add", f"d{number}", (text,))
        self.first = self.world.base.generation
        if self.backend is not None:
            self.world.storage = SteppingStorage(self.director, self.backend.moved(self.world.storage, Hands()))

    @property
    def storage(self) -> Storage:
        return self.world.storage

    def note(self, generation: int, kind: str, key: str, texts: tuple[str, ...] = ()) -> None:
        self.acknowledged.append((generation, kind, key, texts))

    def go(self) -> list[str]:
        """Run two or three actors beside each other, then look at everything; the problems found."""
        kinds = list(ACTORS)
        chosen = [ACTORS[self.random.choice(kinds)] for _ in range(self.random.choice((2, 3, 3)))]
        self.director.run([self._guarded(actor) for actor in chosen])
        self.check()
        return self.problems

    def _guarded(self, actor: Callable[[Run], None]) -> Callable[[], None]:
        def act() -> None:
            try:
                actor(self)
            except (GenerationConflict, NotFound, AlreadyExists):
                pass  # refused: it must leave no trace
            except MissingFile as error:
                if actor is read:  # others come too late where there is no grace at all
                    self.problems.append(f"read: {error.message}")
            except AgentHubError as error:
                self.problems.append(f"{actor.__name__}: {error!r} {error.message}")
            except Exception as error:  # noqa: BLE001 - whatever happens in a schedule is a finding
                self.problems.append(f"{actor.__name__}: {error!r}")

        return act

    # --- the model ---

    def check(self) -> None:
        if self.again is not None and self.again.content() != {"anew": ["a new text"]}:
            self.problems.append(f"the knowledge base that took the name shows {self.again.content()}")
        base = KnowledgeBaseRepository(self.storage).find(TENANT, self.world.base_id)
        if base is None:
            return
        self._check_erased(base)
        self._finish_moves()
        base = self.world.base
        self._check_erased(base)
        self._check_vectors()
        made = [generation for generation, *_ in self.acknowledged]
        if len(set(made)) != len(made):
            self.problems.append(f"two operations made one generation: {sorted(made)}")
        model = self.contents(base.generation)
        for generation in range(max(self.first, base.generation - 1), base.generation + 1):
            seen = self.seen_at(generation)
            if seen is not None and seen != model[generation]:
                self.problems.append(f"generation {generation} shows {seen}, the model says {model[generation]}")

    def _check_erased(self, base: KnowledgeBase) -> None:
        """Finish what erasures asked for, as maintenance would: then nothing is left of what they name."""
        for erasure in ErasureRepository(self.storage).unfinished(TENANT, base.id):
            if not Expunger(self.storage, self.world.engine, lambda *_: (), Grace(SLACK, SLACK)).finish(base, erasure):
                self.problems.append(f"erasure {erasure.id} waits for a writer, and there is none")
        gone = {key for _, kind, key, _ in self.acknowledged if kind == "erase"}
        texts = [text.encode() for _, _, key, found in self.acknowledged if key in gone for text in found]
        left = [path for path, data in self.world.disk.contents.items() if any(text in data for text in texts)]
        if left:
            self.problems.append(f"of erased documents there is something in {left}")

    def _finish_moves(self) -> None:
        """Bring moves to another model to their ends, as runners would, and take what waits for a decision."""
        mover = Mover(self.world, engine=self.world.new_engine())
        mover.work_off()
        if ReembeddingRepository(self.storage).is_open(self.world.base):
            mover.switch()
            mover.work_off()
        left = self.storage.find(MIRRORS, TENANT, Query(limit=1000))
        if left or ReembeddingRepository(self.storage).is_open(self.world.base):
            self.problems.append(f"{len(left)} mirrors are left, or a move")

    def _check_vectors(self) -> None:
        """Each vector of the current generation is the one that its model gives its text."""
        engine, base = self.world.new_engine(), self.world.base
        manifest = engine.read_manifest(base.id, base.pointer)
        if (manifest.signature, signature_of(str(base.embedding_model), base.dimension).text) != (base.signature, base.signature):
            self.problems.append(f"the row says {base.embedding_model}, {base.signature} and the manifest {manifest.signature}")
        for rows in (rows for entry in manifest.segments for rows in engine.segments.rows(base.id, entry)):
            for chunk, vector in zip(rows.chunks, rows.vectors, strict=True):
                wanted = vector_of(chunk.searched_text, base.dimension)
                if len(wanted) != len(vector) or abs(float(wanted @ vector) / float((wanted @ wanted) ** 0.5) - 1) > 1e-4:
                    self.problems.append(f"{chunk.text} of {chunk.document_id} has another text's or model's vector")

    def seen_at(self, generation: int) -> Content | None:
        """What a process that has nothing in memory sees of a generation."""
        engine = KnowledgeEngine(self.world.volume, RagSettings(mapping="never", turn_seconds=0))
        try:
            base = History(self.storage).get(TENANT, self.world.base_id, generation)
            searcher = Snapshots(self.storage, engine).at(base)
        except NotFound:
            return None
        except AgentHubError as error:
            self.problems.append(f"generation {generation}: {error.message}")
            return None
        documents = {f"d{number}" for number in range(6)} | {key for _, _, key, _ in self.acknowledged}
        found = {key: tuple(sorted(chunk.text for chunk in searcher.document_chunks(key))) for key in sorted(documents)}
        if sum(map(len, found.values())) != base.chunk_count:
            self.problems.append(f"generation {generation} counts {base.chunk_count} chunks and shows {found}")
        return {key: texts for key, texts in found.items() if texts}

    def contents(self, last: int) -> dict[int, Content]:
        """What every generation shows, by replaying what was acknowledged; generations of merges show what the one before does."""
        by_generation = {generation: (kind, key, texts) for generation, kind, key, texts in self.acknowledged}
        states: dict[int, Content] = {1: {}}
        for generation in range(2, last + 1):
            kind, key, texts = by_generation.get(generation, ("merge", "", ()))
            before = states[generation - 1]
            if kind in ("add", "replace"):
                states[generation] = {**before, key: tuple(sorted(texts))}
            elif kind in ("delete", "erase"):
                states[generation] = {name: value for name, value in before.items() if name != key}
            elif kind == "restore":
                states[generation] = states[int(key)]
            else:
                states[generation] = before
                self._expect_merge(generation)
        return states

    def _expect_merge(self, generation: int) -> None:
        operations = self.storage.find(OPERATIONS, TENANT, Query(limit=1000))
        kinds = {row["kind"] for row in operations if row["generation"] == generation}
        if not kinds <= {"merge", "create", "erase", "reembed"}:  # an erasure goes on by a commit that changes no content
            self.problems.append(f"generation {generation} was made by {kinds}, which nobody was told")


# --- actors: each does two or three things that may race with the others' ---


def append(run: Run) -> None:
    for _ in range(2):
        key = f"n{new_id()}"
        run.note(run.world.add(key, "new"), "add", key, ("new",))


def delete(run: Run) -> None:
    for key in run.random.sample(["d0", "d1", "d2", "d3"], 2):
        run.note(run.world.delete(key), "delete", key)


def replace(run: Run) -> None:
    for key in run.random.sample(["d0", "d1", "d2", "d3"], 2):
        text = f"r{new_id()}"
        run.note(run.world.replace(key, text), "replace", key, (text,))


def merge(run: Run) -> None:
    """Two merges of whatever there is, without asking whether it is worth it.

    With an engine of its own: threads of one process wait for one another's searchers, which the director can't see.
    """
    engine = KnowledgeEngine(run.world.volume, RagSettings(mapping="never", turn_seconds=0))
    merges = Merges(run.storage, engine)
    for _ in range(2):
        base = KnowledgeBaseRepository(run.storage).get(TENANT, run.world.base_id)
        manifest = engine.read_manifest(base.id, base.pointer)
        count = min(len(manifest.segments), 3)
        start = run.random.randrange(len(manifest.segments) - count + 1)
        visible = Snapshots(run.storage, engine).at(base).visible_counts
        inputs = manifest.segments[start : start + count]
        clear = [e for e, v in zip(manifest.segments, visible, strict=True) if v == e.chunk_count and e not in inputs]
        merges.rewrite(base, manifest, inputs, clear)


def collect(run: Run) -> None:
    """Everything that is unused goes at once, rows and files."""
    for _ in range(2):
        Collector(run.storage, run.world.engine, Grace(SLACK, SLACK)).collect(run.world.base_id)
    Pruner(run.storage, run.world.engine, 7200).prune(KnowledgeBaseRepository(run.storage).get(TENANT, run.world.base_id))


def restore(run: Run) -> None:
    base = KnowledgeBaseRepository(run.storage).get(TENANT, run.world.base_id)
    wanted = run.random.randrange(max(2, base.generation - 3), base.generation)
    try:
        made: Any = Restores(run.storage, run.world.engine, Operation()).restore(base, wanted, lambda restored: restored.generation)
    except Conflict as error:
        if "in another model" in error.message:
            return  # while a move is under way
        raise
    run.note(made, "restore", str(wanted))


def drop(run: Run) -> None:
    """Delete the knowledge base: whatever comes after is refused."""
    KnowledgeBaseRepository(run.storage).retire(TENANT, run.world.base_id)


def recreate(run: Run) -> None:
    """Delete the knowledge base and make another of its name beside those who still work on the first."""
    bases = KnowledgeBaseRepository(run.storage)
    bases.retire(TENANT, run.world.base_id)
    other = World(run.storage, run.world.disk, name=run.world.name).create()
    other.add("anew", "a new text")
    run.again = other


def erase(run: Run) -> None:
    """Erase a document, and finish it as far as others let it."""
    key = run.random.choice(["d0", "d1", "d2", "d3"])
    base = KnowledgeBaseRepository(run.storage).get(TENANT, run.world.base_id)
    made = EraseRequests(run.storage, run.world.engine, Operation()).request(base, key, lambda erasure: erasure)
    run.note(made.generation, "erase", key)
    engine = KnowledgeEngine(run.world.volume, RagSettings(mapping="never", turn_seconds=0))
    erasure = ErasureRepository(run.storage).get(TENANT, made.id)
    for _ in range(3):
        current = KnowledgeBaseRepository(run.storage).get(TENANT, run.world.base_id)
        if Expunger(run.storage, engine, lambda *_: (), Grace(SLACK, SLACK)).finish(current, erasure):
            break


def read(run: Run) -> None:
    """A reader with an engine of its own: what it sees is one of the states there were, never older than it saw."""
    engine = KnowledgeEngine(run.world.volume, RagSettings(mapping="never", turn_seconds=0))
    newest = 0
    for _ in range(3):
        base, searcher = Snapshots(run.storage, engine).open(TENANT, run.world.base_id)
        if searcher.chunk_count != base.chunk_count:
            run.problems.append(f"a reader of generation {base.generation} saw {searcher.chunk_count} of {base.chunk_count} chunks")
        if base.generation < newest:
            run.problems.append(f"a reader went back from {newest} to {base.generation}")
        newest = base.generation


def move(run: Run) -> None:
    """Go to the other model, and back again half of the time; given up if somebody else is at it."""
    engine = run.world.new_engine()
    mover = Mover(run.world, engine=engine)
    base = KnowledgeBaseRepository(run.storage).get(TENANT, run.world.base_id)
    try:
        mover.start("three" if base.embedding_model == "four" else "four", auto_switch=run.random.random() < 0.7)
        mover.work()
        if run.random.random() < 0.5:
            mover.roll_back()
            mover.work()
        elif run.random.random() < 0.3:
            mover.requests.cancel()
    except Conflict:
        return


ACTORS: Final[dict[str, Callable[[Run], None]]] = {
    "append": append,
    "delete": delete,
    "replace": replace,
    "merge": merge,
    "merge again": merge,
    "collect": collect,
    "restore": restore,
    "drop": drop,
    "recreate": recreate,
    "erase": erase,
    "erase again": erase,
    "read": read,
    "move": move,
    "move again": move,
}


def explore(seeds: Sequence[int], backend: Backend | None = None) -> list[str]:
    """Run these schedules, in memory or on another storage; the problems found, each with its seed."""
    found: list[str] = []
    for seed in seeds:
        found += [f"seed {seed}: {problem}" for problem in Run(seed, backend).go()]
    return found
