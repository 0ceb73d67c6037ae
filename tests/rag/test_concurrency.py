from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agenthub.core.errors import CorruptFile
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.kept import Kept
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import SegmentEntry
from tests.rag.samples import NOW, SIGNATURE, Base, Counting, chunks, new_engine, vectors

QUERY = SearchRequest("river forest", vectors(1, 7)[0], "hybrid", 50)
EVERYTHING = SearchRequest(None, vectors(1, 7)[0], "semantic", 100)


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """The results of that many threads that begin at the same moment."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def test_a_value_is_made_once_however_many_ask() -> None:
    kept: Kept[str, object] = Kept(10, lambda _: 1)
    made: list[object] = []

    def make() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    assert len(set(map(id, together(8, lambda _: kept.get("key", make))))) == 1
    assert len(made) == 1


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    kept: Kept[str, int] = Kept(10, lambda _: 1)

    def fail() -> int:
        time.sleep(0.05)
        raise CorruptFile("damaged")

    def attempt(_: int) -> str:
        try:
            return str(kept.get("key", fail))
        except CorruptFile as error:
            return error.message

    assert together(4, attempt) == ["damaged"] * 4
    assert kept.get("key", lambda: 5) == 5


def test_the_least_recently_used_is_dropped_and_the_newest_stays() -> None:
    dropped: list[str] = []
    kept: Kept[str, int] = Kept(10, lambda size: size, dropped.append)
    for key, size in (("a", 4), ("b", 4), ("a", 0), ("c", 4), ("d", 50)):
        kept.get(key, lambda size=size: size)  # type: ignore[misc]
    assert dropped == ["b", "a", "c"]
    assert (kept.present(), kept.size) == (["d"], 50)
    kept.forget(lambda key, _: key == "d")
    assert (kept.present(), kept.size) == ([], 0)


def test_many_threads_open_and_search_the_same_snapshot(tmp_path: Path) -> None:
    base = Base(new_engine(tmp_path)).create()
    for part in range(5):
        base.append(chunks(30, f"p{part}-", part), vectors(30, part))
    expected = [(hit.id, hit.score) for hit in base.searcher().search([QUERY])[0]]
    observer = Counting()
    engine = new_engine(tmp_path, observer=observer)
    answers = together(8, lambda _: [(hit.id, hit.score) for hit in base.searcher(engine).search([QUERY])[0]])
    assert answers == [expected] * 8
    assert observer.timed["open"] == 1


class Race:
    """A row that writers move by compare-and-set and readers follow."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.committed = {base.pointer.generation: 0}

    def commit(self, entry: SegmentEntry) -> None:
        """What the repository does: a compare-and-set, tried again after a lost race with the segment built already."""
        while True:
            seen = self.base.pointer
            manifest = self.base.engine.read_manifest(self.base.id, seen).successor(added=[entry], operation_id="race", now=NOW)
            pointer = self.base.engine.put_manifest(self.base.id, manifest)
            with self.lock:
                if self.base.pointer == seen:
                    self.committed[pointer.generation] = sum(item.chunk_count for item in manifest.segments)
                    self.base.pointer = pointer
                    return
            self.base.engine.discard_manifest(self.base.id, pointer)

    def write(self, writer: int) -> None:
        for step in range(5):
            made = chunks(4, f"w{writer}s{step}-", step)
            self.commit(self.base.engine.write_segment(self.base.id, made, vectors(4, step), signature=SIGNATURE, language="english"))

    def read(self, _: int) -> int:
        """How often whole generations were read, never going back."""
        last, reads = 0, 0
        while not self.done.is_set():
            with self.lock:
                pointer = self.base.pointer
            searcher = self.base.engine.searcher(self.base.id, pointer, [])
            assert searcher.generation >= last
            assert searcher.chunk_count == self.committed[searcher.generation] == len(searcher.search([EVERYTHING])[0])
            last, reads = searcher.generation, reads + 1
        return reads


def test_writers_and_readers_do_not_disturb_one_another(tmp_path: Path) -> None:
    """Four writers race for the next generation while four readers follow."""
    base = Base(new_engine(tmp_path)).create()
    race = Race(base)
    with ThreadPoolExecutor(8) as threads:
        readers = [threads.submit(race.read, number) for number in range(4)]
        for future in [threads.submit(race.write, number) for number in range(4)]:
            future.result()
        race.done.set()
        assert all(reader.result() > 0 for reader in readers)
    assert (base.pointer.generation, base.searcher().chunk_count) == (21, 80)
    assert base.engine.verify(base.id, base.pointer) == []


def test_memory_is_bounded_and_dropped_segments_are_opened_again(tmp_path: Path) -> None:
    settings = RagSettings(segment_cache_bytes=150_000, searcher_cache_count=100)
    engine = new_engine(tmp_path, settings)
    bases = [Base(engine).create() for _ in range(6)]
    for number, base in enumerate(bases):
        base.append(chunks(60, f"b{number}-"), vectors(60, number))
    for _ in range(2):
        for number, base in enumerate(bases):
            assert base.searcher().existing([f"b{number}-5"]) == {f"b{number}-5"}
        sizes = [engine._opened.size, len(engine._searchers.present())]
        assert sizes[0] <= 150_000
        assert sizes[1] <= 3


def test_old_generations_are_let_go(tmp_path: Path) -> None:
    engine = new_engine(tmp_path)
    base = Base(engine).create()
    for part in range(6):
        base.append(chunks(3, f"p{part}-"), vectors(3, part))
        base.searcher()
    assert [key[2] for key in engine._searchers.present()] == [6, 7]


def _answer(engine: KnowledgeEngine, kb_id: str, pointer: Pointer, results: object) -> None:
    hits = engine.searcher(kb_id, pointer, []).search([QUERY])[0]
    results.put([hit.id for hit in hits])  # type: ignore[attr-defined]


@pytest.mark.parametrize("used_before", [False, True])
def test_a_forked_worker_searches(tmp_path: Path, used_before: bool) -> None:
    """gunicorn forks after the engine was made; FAISS used with one thread does not hang afterwards either."""
    base = Base(new_engine(tmp_path)).create()
    base.append(chunks(200), vectors(200, 1))
    expected = [hit.id for hit in base.searcher().search([QUERY])[0]] if used_before else None
    engine = base.engine if used_before else new_engine(tmp_path)
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    worker = fork.Process(target=_answer, args=(engine, base.id, base.pointer, results))
    worker.start()
    found = results.get(timeout=60)
    worker.join(60)
    assert worker.exitcode == 0
    assert found == (expected or [hit.id for hit in base.searcher().search([QUERY])[0]])
