"""What a process lets go of when a generation was replaced, and what it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agenthub.rag import superseded
from agenthub.rag.superseded import Superseded
from tests.rag.samples import NOW, Base, chunks, new_engine, vectors


def key(number: int) -> superseded.SearcherKey:
    return ("kb", 1, number, "hash")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, in seconds."""
    clock = [100.0]
    monkeypatch.setattr("agenthub.rag.superseded.time.monotonic", lambda: clock[0])
    return clock


def test_they_wait_and_then_leave_once(now: list[float]) -> None:
    waiting = Superseded()
    waiting.add(key(1), {"a", "b"})
    waiting.add(key(1), {"a", "b"})
    now[0] += superseded.GRACE_SECONDS / 2
    waiting.add(key(2), {"b", "c"})
    assert not waiting.due() and waiting.take() == (set(), set())
    now[0] += superseded.GRACE_SECONDS / 2
    assert waiting.due()
    assert not waiting.due(), "once a second is enough"
    assert waiting.take() == ({key(1)}, {"a", "b"})
    now[0] += superseded.GRACE_SECONDS
    assert waiting.take() == ({key(2)}, {"b", "c"}) and waiting.take() == (set(), set())


def test_segments_that_nothing_lists_any_more_are_closed(tmp_path: Path, now: list[float]) -> None:
    base = Base(new_engine(tmp_path)).create()
    base.append(chunks(3), vectors(3, 1))
    first = base.searcher()
    (kept,) = first.segment_keys
    base.append(chunks(3, "d"), vectors(3, 2))
    (dropped,) = base.searcher().segment_keys - {kept}
    manifest = base.engine.read_manifest(base.id, base.pointer)
    left = tuple(entry for entry in manifest.segments if entry.id != dropped.split("/")[1])
    base.pointer = base.engine.put_manifest(base.id, replace(manifest, segments=left).successor(operation_id="merge", now=NOW))
    base.searcher()
    now[0] += 1
    base.searcher()
    assert set(base.engine._opened.present()) == {kept, dropped}, "requests under way may ask for the one before"
    now[0] += superseded.GRACE_SECONDS
    base.searcher()
    assert base.engine._opened.present() == [kept]
    assert [found[2] for found in base.engine._searchers.present()] == [base.pointer.generation]
    assert first.segment_keys == {kept}, "who still has one can use it"
