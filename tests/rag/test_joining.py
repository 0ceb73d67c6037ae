"""Small segments side by side are searched as one: the answers stay, memory is bounded, and what is erased goes."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenthub.rag.filters import parse_filter
from agenthub.rag.joining import JOINED_AFTER, Joined, JoinedPostings, Joining, Neighbours
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.searcher import Hit, Mode, Searcher, SearchRequest
from agenthub.rag.strings import encode
from agenthub.rag.views import SegmentView
from tests.rag.samples import ENGLISH, WORDS, Base, chunks, new_engine, vectors
from tests.rag.test_search_model import FILTERS, _compare, exact, histories, play

QUERY = vectors(1, 17)[0]
SHAPES: list[tuple[Mode, int, dict[str, Any] | None]] = [
    ("semantic", 10, None),
    ("keyword", 30, None),
    ("hybrid", 10, {"field": "even", "op": "eq", "value": True}),
    ("semantic", 60, {"field": "n", "op": "lt", "value": 3}),
]
REQUESTS = [
    SearchRequest(text, QUERY, mode, top_k, None if tree is None else parse_filter(tree))
    for text in ("river forest granite", '"river forest"', "riv* copper", 'harbour -"copper velvet"')
    for mode, top_k, tree in SHAPES
]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.rag.joining.JOINED_AFTER", 1)
    monkeypatch.setattr("agenthub.rag.joining.LEAST_SEGMENTS", 2)


def runs(searcher: Searcher) -> list[tuple[int, int]]:
    return [(run.first, run.end) for run in searcher._neighbours.runs(0)]


def asked_often(searcher: Searcher) -> Searcher:
    searcher.search([REQUESTS[0]] * JOINED_AFTER)
    assert runs(searcher)
    return searcher


def small_segments(root: Path, count: int = 5) -> Base:
    base = Base(new_engine(root)).create()
    for part in range(count):
        base.append(chunks(20 + part, f"p{part}", part), vectors(20 + part, part))
    return base


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.sampled_from([*WORDS, "日本語", "é"]), max_size=6).map(" ".join), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_joined_postings_are_those_of_the_parts(parts: list[list[str]]) -> None:
    joined = JoinedPostings.of([KeywordIndex.of(part, ENGLISH) for part in parts])
    whole = KeywordIndex.of([text for part in parts for text in part], ENGLISH)
    for term in ("river", "forest", "日", "本語", "e", "absent", ""):
        for one, other in zip(joined.of_term(encode(term)), whole.postings(term), strict=True):
            assert one.tolist() == other.tolist()


@pytest.mark.usefixtures("at_once")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    history=histories,
    mode=st.sampled_from(["semantic", "keyword", "hybrid"]),
    chosen=st.integers(0, len(FILTERS) - 1),
    top_k=st.sampled_from([1, 10, 100]),
    large=st.sampled_from([4, 9, 2048]),
)
def test_joined_answers_are_the_exact_ones(
    root: Path, history: list[tuple[str, int, int]], mode: Mode, chosen: int, top_k: int, large: int
) -> None:
    """With large segments among the small ones, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agenthub.rag.joining.FLAT_ROWS", large)
        base = Base(new_engine(root)).create()
        play(base, history)
        tree, matches = FILTERS[chosen]
        request = SearchRequest("river forest granite", QUERY, mode, top_k, None if tree is None else parse_filter(tree))
        _compare(base.searcher().search([request])[0], exact(base, request, matches), mode, top_k)


def test_joining_changes_no_answer(tmp_path: Path) -> None:
    base = small_segments(tmp_path)
    base.delete(document="p1-doc3")
    base.delete(chunk="p42")
    searcher = base.searcher()
    before = [searcher.search([request])[0] for request in REQUESTS]
    assert runs(searcher) == [(0, 5)]
    for request, hits in zip(REQUESTS, before, strict=True):
        assert hits
        assert_same(searcher.search([request])[0], hits)
    for hits, others in zip(searcher.search(REQUESTS), before, strict=True):
        assert_same(hits, others)


def assert_same(hits: list[Hit], others: list[Hit]) -> None:
    assert [hit.id for hit in hits] == [hit.id for hit in others]
    for name in ("score", "semantic_score", "keyword_score"):
        values, expected = ([getattr(hit, name) for hit in side] for side in (hits, others))
        assert [value is None for value in values] == [value is None for value in expected]
        assert [value or 0 for value in values] == pytest.approx([value or 0 for value in expected], rel=1e-5, abs=1e-6)


def test_only_neighbours_that_are_small_and_seen_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.rag.joining.FLAT_ROWS", 23)  # the segments have 20, 21, 22, 23, 24, …
    base = small_segments(tmp_path, 4)
    for part in range(3):
        base.append(chunks(3, f"q{part}", part), vectors(3, part))
    assert runs(asked_often(base.searcher())) == [(0, 3), (4, 7)]
    base.delete(document="q1-doc0")  # all of its segment
    assert runs(asked_often(base.searcher())) == [(0, 3)]


def test_what_would_be_too_large_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.rag.joining._LARGEST_BYTES", 66 * (512 + 4 * 8))
    assert runs(asked_often(small_segments(tmp_path, 7).searcher())) == [(0, 3)]


def test_snapshots_share_what_is_joined_and_losing_it_is_no_harm(tmp_path: Path) -> None:
    base = small_segments(tmp_path)
    first = asked_often(base.searcher())
    joined = first._neighbours.runs(0)[0].joined
    base.delete(chunk="p01")
    second = asked_often(base.searcher())
    assert second._neighbours.runs(0)[0].joined is joined
    hits = second.search([REQUESTS[0]])[0]
    base.engine._joining.close()
    del joined
    gc.collect()
    assert runs(second) == []
    assert_same(second.search([REQUESTS[0]])[0], hits)


def test_what_is_joined_in_a_process_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 3 * 80 * (512 + 4 * 8)  # for three of six
    monkeypatch.setattr("agenthub.rag.joining.MOST_BYTES", room)
    engine = new_engine(tmp_path)
    engine._joining = Joining()
    searchers = []
    for number in range(6):
        base = Base(engine).create()
        for part in range(4):
            base.append(chunks(20, f"{number}-{part}-", part), vectors(20, part))
        searchers.append(asked_often(base.searcher()))
    gc.collect()
    assert engine._joining._kept.size <= room
    assert [bool(runs(searcher)) for searcher in searchers] == [False] * 3 + [True] * 3


def test_a_snapshot_joins_what_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.rag.joining._LARGEST_BYTES", 66 * (512 + 4 * 8))
    monkeypatch.setattr("agenthub.rag.joining.MOST_BYTES", 140 * (512 + 4 * 8))
    base = Base(new_engine(tmp_path)).create()
    for part in range(12):
        base.append(chunks(20, f"p{part}", part), vectors(20, part))
    assert runs(asked_often(base.searcher())) == [(0, 3), (3, 6)]


def test_who_loses_the_room_again_and_again_joins_less_and_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = small_segments(tmp_path)
    searcher, made, asked = base.searcher(), list[int](), list[int]()

    def kept_by_nobody(views: Sequence[SegmentView]) -> Joined:
        made.append(len(asked))
        return Joined([view.segment for view in views])

    monkeypatch.setattr(base.engine._joining, "of", kept_by_nobody)
    for number in range(400):
        asked.append(number)
        searcher.search([REQUESTS[0]])
    assert made == [16, 80, 336], "after 16 searches, after 64 more and after 256 more"


def test_postings_are_joined_for_words_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JoinedPostings, "of", lambda *_: pytest.fail("a vector needs no words"))
    searcher = small_segments(tmp_path).searcher()
    request = SearchRequest("", QUERY, "semantic", 10, None)
    searcher.search([request] * JOINED_AFTER)
    assert runs(searcher) and searcher.search([request])[0]


def test_an_erased_segment_is_in_nothing_that_is_joined(tmp_path: Path) -> None:
    base = small_segments(tmp_path)
    searcher = asked_often(base.searcher())
    entry = base.engine.read_manifest(base.id, base.pointer).segments[2]
    base.engine.forget_segments(base.id, [entry.id])
    gc.collect()
    assert runs(searcher) == []
    assert base.engine._joining._kept.present() == []


def test_threads_join_once(tmp_path: Path) -> None:
    base = small_segments(tmp_path)
    searcher = base.searcher()
    expected = searcher.search([REQUESTS[0]])[0]
    with ThreadPoolExecutor(8) as pool:
        found: list[Any] = list(pool.map(lambda _: searcher.search([REQUESTS[0]])[0], range(200)))
    for hits in found:
        assert_same(hits, expected)
    assert len(base.engine._joining._kept.present()) == 1


def test_nothing_is_joined_before_it_pays(tmp_path: Path) -> None:
    searcher = small_segments(tmp_path).searcher()
    for _ in range(JOINED_AFTER - 1):
        searcher.search([REQUESTS[0]])
    assert isinstance(searcher._neighbours, Neighbours)
    assert runs(searcher) == []
    searcher.search([REQUESTS[0]])
    assert runs(searcher) == [(0, 5)]
    assert np.isfinite(searcher.search([REQUESTS[0]])[0][0].score)
