"""Search against a plain model: whatever was appended and deleted, over however many segments, the answers are the exact ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agenthub.core.errors import InvalidInput
from agenthub.rag.configuration import RagSettings
from agenthub.rag.filters import parse_filter
from agenthub.rag.searcher import Hit, Mode, SearchRequest
from agenthub.rag.segment import Chunk
from tests.rag.samples import DIMENSION, Base, Counting, MakeEngine, bm25, chunks, cosines, milvus_engine, new_engine, vectors

FILTERS: list[tuple[dict[str, Any] | None, Callable[[Chunk], bool]]] = [
    (None, lambda chunk: True),
    ({"field": "lang", "op": "eq", "value": "en"}, lambda chunk: chunk.metadata["lang"] == "en"),
    ({"field": "n", "op": "lt", "value": 2}, lambda chunk: chunk.metadata["n"] < 2),
    ({"not": {"field": "tags", "op": "contains", "value": "river"}}, lambda chunk: "river" not in chunk.metadata["tags"]),
    ({"field": "document_id", "op": "in", "value": ["a-doc0", "b-doc1"]}, lambda chunk: chunk.document_id in ("a-doc0", "b-doc1")),
    ({"field": "n", "op": "gt", "value": 1000}, lambda chunk: False),
]

append = st.tuples(st.just("append"), st.integers(1, 12), st.integers(0, 10_000))
delete = st.tuples(st.sampled_from(["document", "chunk", "replace"]), st.integers(0, 30), st.integers(0, 10_000))
histories = st.lists(st.one_of(append, delete), min_size=1, max_size=10)


def play(base: Base, history: list[tuple[str, int, int]]) -> None:
    """Carry out a history; ids come back after deletes, so that the covers rule matters."""
    for kind, amount, seed in history:
        known = sorted(base.visible)
        if kind == "append":
            fresh = [chunk for chunk in chunks(amount, "ab"[seed % 2], seed) if chunk.id not in base.visible]
            if fresh:
                base.append(fresh, vectors(len(fresh), seed))
        elif known and kind == "document":
            base.delete(document=base.visible[known[amount % len(known)]][0].document_id)
        elif known and kind == "chunk":
            base.delete(chunk=known[amount % len(known)])
        elif known:
            old = base.visible[known[amount % len(known)]][0]
            base.replace([Chunk(old.id, old.document_id, "granite whisper", old.metadata)], vectors(1, seed))


@pytest.fixture(scope="module")
def root() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def exact(base: Base, request: SearchRequest, matches: Callable[[Chunk], bool]) -> dict[str, tuple[float, float, float]]:
    """Every matching chunk's semantic, keyword and fused score, the plain way."""
    pairs = list(base.visible.values())
    query = request.vector if request.vector is not None else vectors(1, 0)[0]
    similar = cosines([row for _, row in pairs], query)
    worded = bm25([chunk.text for chunk, _ in pairs], request.text or "")
    rows = [(chunk.id, s, k) for (chunk, _), s, k in zip(pairs, similar, worded, strict=True) if matches(chunk)]
    first = scaled(sorted((s for _, s, _ in rows), reverse=True)[:100])
    second = scaled(sorted((k for _, _, k in rows if k > 0), reverse=True)[:100])
    return {name: (s, k, (first(s) + (second(k) if k > 0 else 0)) / 2) for name, s, k in rows}


def scaled(best: list[float]) -> Callable[[float], float]:
    low, high = (min(best), max(best)) if best else (0.0, 0.0)
    return lambda score: 0.0 if score < low - 1e-9 else 1.0 if high - low < 1e-12 else (score - low) / (high - low)


QUESTIONS: dict[str, Any] = {
    "history": histories,
    "seed": st.integers(0, 1000),
    "mode": st.sampled_from(["semantic", "keyword", "hybrid"]),
    "chosen": st.integers(0, len(FILTERS) - 1),
    "top_k": st.sampled_from([1, 3, 10, 100]),
    "fraction": st.sampled_from([0.0, 0.05, 1.0]),
}
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(**QUESTIONS)
def test_answers_are_the_exact_ones(root: Path, **question: Any) -> None:
    _answers(new_engine, root, **question)


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(**QUESTIONS)
def test_answers_are_the_exact_ones_in_milvus(root: Path, **question: Any) -> None:
    _answers(milvus_engine, root, **question)


def _answers(
    make: MakeEngine, root: Path, history: list[tuple[str, int, int]], seed: int, mode: Mode, chosen: int, top_k: int, fraction: float
) -> None:
    base = Base(make(root, RagSettings(brute_force_fraction=fraction))).create()
    play(base, history)
    tree, matches = FILTERS[chosen]
    request = SearchRequest("river forest granite", vectors(1, seed)[0], mode, top_k, None if tree is None else parse_filter(tree))
    searcher = base.searcher()
    assert searcher.chunk_count == len(base.visible)
    _compare(searcher.search([request])[0], exact(base, request, matches), mode, top_k)
    assert base.searcher(make(root)).existing(["a0", "b1", *base.visible]) == set(base.visible)


def _compare(hits: list[Hit], expected: dict[str, tuple[float, float, float]], mode: str, top_k: int) -> None:
    """The hits' scores are the best there are, each belongs to its chunk, and there are as many as there can be."""
    place = {"semantic": 0, "keyword": 1, "hybrid": 2}[mode]
    possible = {name: scores[place] for name, scores in expected.items() if mode != "keyword" or scores[1] > 0}
    best = sorted(possible.values(), reverse=True)[:top_k]
    assert [hit.score for hit in hits] == pytest.approx(best, abs=2e-5)
    assert len({hit.id for hit in hits}) == len(hits)
    for hit in hits:
        assert hit.score == pytest.approx(possible[hit.id], abs=2e-5)


def test_every_candidate_path_gives_the_same_answer(make_engine: MakeEngine, tmp_path: Path) -> None:
    """Index, index with more asked for, selector and plain multiplication over 900 rows."""
    rows, many = vectors(900, 5), chunks(900)
    query = vectors(1, 6)[0]
    answers = []
    for fraction in (0.0, 1.0):
        base = Base(make_engine(tmp_path / str(fraction), RagSettings(brute_force_fraction=fraction))).create()
        base.append(many, rows)
        for below in (20, 450, 720, 890, 900):
            tree = parse_filter({"field": "n", "op": "lt", "value": below})
            hits = base.searcher().search([SearchRequest(None, query, "semantic", 50, tree)])[0]
            best = sorted(cosines(rows[:below], query), reverse=True)[:50]
            assert [hit.score for hit in hits] == pytest.approx(best, abs=2e-6)
            answers.append([hit.id for hit in hits])
    assert answers[:5] == answers[5:]


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
def test_a_batch_answers_as_single_requests_do(make_engine: MakeEngine, tmp_path: Path, mode: Mode) -> None:
    base = Base(make_engine(tmp_path)).create()
    for part in range(4):
        base.append(chunks(40, f"p{part}-", part), vectors(40, part))
    base.delete(document="p1-doc3")
    odd = parse_filter({"field": "even", "op": "eq", "value": False})
    texts = ["river", "copper velvet", "nothing of this", "the", "thunder orchid granite"] * 6
    requests = [SearchRequest(text, vectors(1, i)[0], mode, 1 + i, odd if i % 3 else None) for i, text in enumerate(texts)]
    together = base.searcher().search(requests)
    for request, hits in zip(requests, together, strict=True):
        alone = base.searcher().search([request])[0]
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)


def test_equal_scores_come_in_the_order_of_commits(make_engine: MakeEngine, tmp_path: Path) -> None:
    base = Base(make_engine(tmp_path)).create()
    same = np.tile(vectors(1, 1), (5, 1))
    for part in ("x", "y"):
        base.append([Chunk(f"{part}{n}", None, "copper", {}) for n in range(5)], same)
    for mode in ("semantic", "keyword", "hybrid"):
        hits = base.searcher().search([SearchRequest("copper", same[0], mode, 7)])[0]
        assert [hit.id for hit in hits] == ["x0", "x1", "x2", "x3", "x4", "y0", "y1"]


def test_scores_say_what_they_promise(make_engine: MakeEngine, tmp_path: Path) -> None:
    base = Base(make_engine(tmp_path)).create()
    base.append(chunks(300), vectors(300, 3) * 1e6)
    query = SearchRequest("river forest", vectors(1, 8)[0] * np.float32(1e-6), "hybrid", 100)
    hits = base.searcher().search([query])[0]
    assert hits[0].score <= 1
    assert hits[-1].score >= 0
    assert all(hit.semantic_score is None or -1 <= hit.semantic_score <= 1 for hit in hits)
    assert any(hit.semantic_score is None for hit in hits)
    assert any(hit.keyword_score is None for hit in hits)
    enough = base.searcher().search([SearchRequest("river forest", query.vector, "hybrid", 100, None, 0.6)])[0]
    assert [hit.id for hit in enough] == [hit.id for hit in hits if hit.score >= 0.6]
    assert 0 < len(enough) < 100


def test_hybrid_with_one_side_given_is_that_side(make_engine: MakeEngine, tmp_path: Path) -> None:
    base = Base(make_engine(tmp_path)).create()
    base.append(chunks(20), vectors(20, 3))
    query = vectors(1, 8)[0]
    searcher = base.searcher()
    for one, other in (("hybrid", "semantic"), ("hybrid", "keyword")):
        text, vector = ("river", None) if other == "keyword" else (None, query)
        both = [searcher.search([SearchRequest(text, vector, mode, 9)])[0] for mode in (one, other)]  # type: ignore[arg-type]
        assert both[0] == both[1]


def test_lookups_see_only_what_is_visible(make_engine: MakeEngine, tmp_path: Path) -> None:
    base = Base(make_engine(tmp_path)).create()
    base.append(chunks(9), vectors(9, 1))
    base.delete(chunk="c1")
    base.delete(document="c-doc1")
    base.append([Chunk("c1", "c-doc0", "again", {"position": 0})], vectors(1, 2))
    searcher = base.searcher()
    assert searcher.existing(["c0", "c1", "c3", "zz", ""]) == {"c0", "c1"}
    assert searcher.find_chunks(["c1", "c4"]) == {"c1": Chunk("c1", "c-doc0", "again", {"position": 0})}
    assert [chunk.id for chunk in searcher.document_chunks("c-doc0")] == ["c1", "c0", "c2"]
    assert searcher.document_chunks("c-doc1") == []
    assert searcher.chunk_count == 6


def test_a_replaced_chunk_is_there_once_in_its_new_version(make_engine: MakeEngine, tmp_path: Path) -> None:
    """The tombstone and the new copy have one generation: the old is hidden, the new is not; a later delete hides both."""
    base = Base(make_engine(tmp_path)).create()
    base.append(chunks(3), vectors(3, 1))
    for text in ("second", "third"):
        base.replace([Chunk("c1", "c-doc0", text, {})], vectors(1, 2))
        assert base.searcher().find_chunks(["c1"]) == {"c1": Chunk("c1", "c-doc0", text, {})}
        assert base.searcher().chunk_count == 3
    base.delete(document="c-doc0")
    assert base.searcher().chunk_count == 0


def test_a_searcher_stays_at_its_generation(make_engine: MakeEngine, tmp_path: Path) -> None:
    base = Base(make_engine(tmp_path)).create()
    base.append(chunks(3), vectors(3, 1))
    pinned = base.searcher()
    base.delete(document="c-doc0")
    base.append(chunks(3, "d"), vectors(3, 2))
    assert (pinned.generation, pinned.chunk_count) == (2, 3)
    assert pinned.existing(["c0", "d0"]) == {"c0"}
    assert base.searcher().existing(["c0", "d0"]) == {"d0"}
    assert base.searcher().generation == 4


def test_an_empty_knowledge_base_answers_nothing(make_engine: MakeEngine, tmp_path: Path) -> None:
    observer = Counting()
    base = Base(make_engine(tmp_path, observer=observer)).create()
    assert base.searcher().search([SearchRequest("x", np.ones(DIMENSION, np.float32), "hybrid", 5)]) == [[]]
    assert base.searcher().document_chunks("d") == []
    base.append(chunks(2), vectors(2, 0))
    base.searcher().search(
        [SearchRequest("river", vectors(1, 3)[0], "hybrid", 5, parse_filter({"field": "absent", "op": "exists", "value": False}))]
    )
    assert set(observer.timed) == {"open", "vector", "keyword", "filter", "fuse", "fetch"}
    base.delete(document="c-doc0")
    assert base.searcher().search([SearchRequest("x", None, "keyword", 5)]) == [[]]


@pytest.mark.parametrize("bad", [[np.nan] * 8, [np.inf] + [0] * 7, [0] * 8, [1] * 7, [1] * 9, [[1] * 8]])
def test_bad_vectors_are_refused_by_name(make_engine: MakeEngine, tmp_path: Path, bad: list[float]) -> None:
    base = Base(make_engine(tmp_path)).create()
    base.append(chunks(2), vectors(2, 0))
    vector: NDArray[np.float32] = np.array(bad, dtype=np.float32)
    good = SearchRequest(None, vectors(1, 0)[0], "semantic", 3)
    with pytest.raises(InvalidInput) as one:
        base.searcher().search([SearchRequest(None, vector, "semantic", 3)])
    assert one.value.field == "vector"
    with pytest.raises(InvalidInput) as many:
        base.searcher().search([good, SearchRequest(None, vector, "semantic", 3)])
    assert many.value.field == "vectors[1]"


@pytest.mark.parametrize(("row", "value"), [(0, np.nan), (2, np.inf), (1, 0.0), (2, -np.inf)])
def test_bad_vectors_are_not_written(make_engine: MakeEngine, tmp_path: Path, row: int, value: float) -> None:
    base = Base(make_engine(tmp_path)).create()
    rows = vectors(3, 0)
    rows[row] = value
    with pytest.raises(InvalidInput) as refused:
        base.append(chunks(3), rows)
    assert refused.value.field == f"items[{row}].vector"
    assert not (tmp_path / base.id / "segments").exists()


@pytest.mark.parametrize(
    ("added", "count", "field"),
    [
        ([], 0, "items"),
        (chunks(2), 1, "items"),
        ([Chunk("a", None, "x", {}), Chunk("a", None, "y", {})], 2, "items[1].id"),
        ([Chunk("a", None, "\ud800", {})], 1, "items[0]"),
        ([Chunk("a", None, "x", {"bad": {1, 2}})], 1, "items[0]"),
    ],
)
def test_bad_chunks_are_not_written(make_engine: MakeEngine, tmp_path: Path, added: list[Chunk], count: int, field: str) -> None:
    base = Base(make_engine(tmp_path)).create()
    with pytest.raises(InvalidInput) as refused:
        base.append(added, vectors(count, 0))
    assert refused.value.field == field


def test_a_request_without_what_its_mode_needs_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    base = Base(make_engine(tmp_path)).create()
    query = vectors(1, 0)[0]
    for request, field in [
        (SearchRequest("x", None, "semantic", 3), "vector"),
        (SearchRequest(None, query, "keyword", 3), "query"),
        (SearchRequest("x", query, "hybrid", 0), "top_k"),
        (SearchRequest("x", query, "hybrid", 101), "top_k"),
    ]:
        with pytest.raises(InvalidInput) as refused:
            base.searcher().search([request])
        assert refused.value.field == field


def test_unit_vectors_keep_their_bytes_when_written_again(tmp_path: Path) -> None:
    """A merge copies vectors from one segment to another; they must not drift."""
    base = Base(new_engine(tmp_path)).create()
    base.append(chunks(50), vectors(50, 1))
    folder = next((tmp_path / base.id / "segments").iterdir())
    stored = np.frombuffer((folder / "vectors.f32").read_bytes(), dtype="<f4").reshape(50, DIMENSION)
    base.append(chunks(50, "again"), stored)
    entry = base.engine.read_manifest(base.id, base.pointer).segments[1]
    again = (tmp_path / base.id / "segments" / entry.id / "vectors.f32").read_bytes()
    assert again == stored.tobytes()
