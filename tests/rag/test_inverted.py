"""The approximate index: compared with comparing everything, on data that suits it and on data that doesn't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.choosing import Chosen
from agenthub.rag.faiss_codec import FLAT_ROWS, choose_index, open_lists
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import INDEX, VECTORS, SegmentHeader
from agenthub.rag.vector_index import Measured, VectorIndex, check_index, make_index, open_index
from agenthub.rag.vectors import Vectors, unit_vectors
from tests.rag.samples import DIMENSION, SIGNATURE, Base, Counting, chunks, cosines, new_engine, vectors

WIDE = 48
COUNT = 12_000
QUERIES = 40


def clustered(count: int, random: np.random.Generator) -> Vectors:
    centres = random.standard_normal((60, WIDE), dtype=np.float32)
    return centres[random.integers(60, size=count)] + random.standard_normal((count, WIDE), dtype=np.float32) * np.float32(0.7)


def uniform(count: int, random: np.random.Generator) -> Vectors:
    return random.standard_normal((count, WIDE), dtype=np.float32)


def near_duplicates(count: int, random: np.random.Generator) -> Vectors:
    """Two hundred texts, each stored sixty times with a hair's difference: less than codes can tell."""
    texts = np.random.default_rng(5).standard_normal((200, WIDE), dtype=np.float32)
    return texts[random.integers(200, size=count)] + random.standard_normal((count, WIDE), dtype=np.float32) * np.float32(1e-4)


def one_constant_dimension(count: int, random: np.random.Generator) -> Vectors:
    rows = clustered(count, random)
    rows[:, 3] = 0
    return rows


KINDS: dict[str, Callable[[int, np.random.Generator], Vectors]] = {
    "clustered": clustered,
    "uniform": uniform,
    "near duplicates": near_duplicates,
    "one constant dimension": one_constant_dimension,
}


@cache
def made(kind: str) -> tuple[Vectors, Vectors, VectorIndex]:
    """The stored vectors, the queries, and the index."""
    rows = unit_vectors(KINDS[kind](COUNT + QUERIES, np.random.default_rng(1)))
    stored, queries = rows[:COUNT].copy(), rows[COUNT:].copy()
    index = make_index(stored)
    assert index.kind == "ivf"
    return stored, queries, open_index(np.frombuffer(index.data, dtype=np.uint8), index.kind, index.facts, stored.shape, lambda: stored)


def recall(found: Vectors, stored: Vectors, queries: Vectors, rows: NDArray[np.int64], count: int) -> float:
    """The share of answers that are as good as the true ones: of equally near rows each is right."""
    exact = -np.sort(-(queries @ stored[rows].T), axis=1)[:, :count]
    return float(np.mean(found >= exact[:, -1:] - 1e-5))


@pytest.mark.parametrize("kind", KINDS)
def test_recall_among_the_rows_that_lie_farthest(kind: str) -> None:
    """The best of these are extremes: their cosines exceed those of their centres by more than a near row's does."""
    stored, queries, index = made(kind)
    farthest = np.argsort(stored @ queries[0])[:2000]
    chosen = np.zeros(COUNT, dtype=np.bool_)
    chosen[farthest] = True
    scores, rows = index.nearest(queries, 10, Chosen.of(chosen), 0.05)
    assert chosen[rows].all()
    assert recall(scores, stored, queries, farthest, 10) >= 0.999


def test_the_reach_holds_for_strangers_too() -> None:
    """In compact clusters near rows exceed their centres by less than the best of the far ones do, which filters may leave."""
    random = np.random.default_rng(2)
    centres = unit_vectors(random.standard_normal((12, 384), dtype=np.float32))
    noise = random.standard_normal((6_040, 384), dtype=np.float32) * np.float32(0.7 / 384**0.5)
    rows = unit_vectors(centres[random.integers(12, size=6_040)] + noise)
    stored, queries = rows[:6_000].copy(), rows[6_000:].copy()
    made = make_index(stored, "ivf")
    assert made.facts is not None
    lists = open_lists(np.frombuffer(made.data, dtype=np.uint8), *stored.shape)
    excess = queries @ stored.T - (queries @ lists.centres.T)[:, lists.owners]
    assert np.mean(excess > made.facts.reach) < 0.0005


@pytest.mark.parametrize("kind", KINDS)
def test_recall_without_a_filter(kind: str) -> None:
    stored, queries, index = made(kind)
    for count in (1, 10, 100):
        scores, rows = index.nearest(queries, count, None, 0.05)
        assert recall(scores, stored, queries, np.arange(COUNT), count) >= 0.99
        assert scores == pytest.approx(np.einsum("qkd,qd->qk", stored[rows], queries), abs=1e-5)
        assert np.all(scores[:, 1:] <= scores[:, :-1])
        assert all(len(set(one)) == count for one in rows.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_recall_under_filters(kind: str, fraction: float) -> None:
    stored, queries, index = made(kind)
    _check_filter(stored, queries, index, np.random.default_rng(7).random(COUNT) < fraction)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_recall_under_filters_that_go_with_the_vectors(kind: str, fraction: float) -> None:
    """Such as "everything but the topic that was asked about": the answers are not where the nearest rows are."""
    stored, queries, index = made(kind)
    near = stored @ queries[0]
    _check_filter(stored, queries, index, near <= np.quantile(near, fraction))


def _check_filter(stored: Vectors, queries: Vectors, index: VectorIndex, live: NDArray[np.bool_]) -> None:
    wanted = min(10, int(live.sum()))
    scores, rows = index.nearest(queries, 10, Chosen.of(live), 0.05)
    assert np.all(rows[:, :wanted] >= 0)
    assert live[rows[:, :wanted]].all()
    assert recall(scores[:, :wanted], stored, queries, np.flatnonzero(live), wanted) >= 0.98


@settings(max_examples=40, deadline=None)
@given(
    count=st.one_of(st.integers(1, 40), st.integers(500, 900)),
    dimension=st.sampled_from([1, 2, 7, 16]),
    seed=st.integers(0, 1000),
    top=st.integers(1, 100),
    fraction=st.sampled_from([None, 0.0, 0.02, 0.3, 1.0]),
    levels=st.sampled_from([0, 3]),
)
def test_small_and_odd_indexes_answer_in_full(count: int, dimension: int, seed: int, top: int, fraction: float | None, levels: int) -> None:
    """Any number of rows, few dimensions, many equal rows: as many answers as there are rows, none twice, none unchosen."""
    random = np.random.default_rng(seed)
    raw = random.integers(1, levels + 1, (count, dimension)) if levels else random.standard_normal((count, dimension))
    stored, queries = unit_vectors(raw.astype(np.float32)), unit_vectors(random.standard_normal((3, dimension)).astype(np.float32))
    index = make_index(stored, "ivf")
    opened = open_index(np.frombuffer(index.data, dtype=np.uint8), "ivf", index.facts, stored.shape, lambda: stored)
    live = np.ones(count, dtype=np.bool_) if fraction is None else random.random(count) < fraction
    scores, rows = opened.nearest(queries, top, None if fraction is None else Chosen.of(live), 0.05)
    for at in range(3):
        found = rows[at][rows[at] >= 0]
        assert len(found) == len(set(found.tolist())) == min(top, live.sum())
        assert live[found].all()
        best = -np.sort(-(stored[live] @ queries[at]))[:top]
        assert np.mean(scores[at][rows[at] >= 0] >= best - 1e-5) >= 0.9 if len(best) else True


def test_the_kind_follows_the_size() -> None:
    assert [choose_index(count) for count in (1, 1000, FLAT_ROWS - 1, FLAT_ROWS, 10**7)] == ["flat", "flat", "flat", "ivf", "ivf"]


def test_the_same_vectors_make_the_same_index() -> None:
    stored = unit_vectors(clustered(FLAT_ROWS, np.random.default_rng(2)))
    first, second = make_index(stored), make_index(stored)
    assert bytes(first.data) == bytes(second.data)
    assert first.facts == second.facts


def test_an_index_takes_a_quarter_of_its_vectors() -> None:
    stored, _, index = made("clustered")
    assert index.size_bytes < stored.nbytes * 1.6


def test_codes_of_other_vectors_are_seen() -> None:
    stored = unit_vectors(clustered(FLAT_ROWS, np.random.default_rng(2)))
    index = make_index(stored)
    data = np.frombuffer(index.data, dtype=np.uint8)
    check_index(data, "ivf", index.facts, stored.shape, stored)
    check_index(data, "ivf", index.facts, stored.shape, None)
    other = stored.copy()
    other[[5, 9]] = other[[9, 5]]
    with pytest.raises(CorruptFile):
        check_index(data, "ivf", index.facts, stored.shape, other)


@pytest.mark.parametrize("facts", [None, Measured((), 0.1), Measured(((10, 0),), 0.1), Measured(((10, 10_000),), 0.1)])
def test_an_index_without_sound_measurements_is_refused(facts: Measured | None) -> None:
    stored = unit_vectors(clustered(FLAT_ROWS, np.random.default_rng(2)))
    data = np.frombuffer(make_index(stored).data, dtype=np.uint8)
    with pytest.raises(CorruptFile):
        open_index(data, "ivf", facts, stored.shape, lambda: stored)


@pytest.mark.parametrize("shape", [(FLAT_ROWS - 1, WIDE), (FLAT_ROWS + 1, WIDE), (FLAT_ROWS, WIDE - 1), (FLAT_ROWS * 2, WIDE // 2)])
def test_an_index_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    made_index = make_index(unit_vectors(clustered(FLAT_ROWS, np.random.default_rng(2))))
    data = np.frombuffer(made_index.data, dtype=np.uint8)
    with pytest.raises(CorruptFile):
        open_index(data, "ivf", made_index.facts, shape, lambda: np.zeros(shape, np.float32))


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "IVF4,SQ4", "HNSW8", "SQ8"])
def test_other_kinds_are_refused(factory: str) -> None:
    rows = unit_vectors(vectors(200, 1))
    index = faiss.index_factory(DIMENSION, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    with pytest.raises(CorruptFile):
        open_index(np.asarray(faiss.serialize_index(index)), "ivf", Measured(((10, 1),), 0.1), (200, DIMENSION), lambda: rows)


def test_rows_named_twice_or_out_of_range_are_refused() -> None:
    rows = unit_vectors(vectors(200, 1))
    for ids in (np.arange(1, 201), np.zeros(200), -np.arange(200)):
        index = faiss.index_factory(DIMENSION, "IVF4,SQ8", faiss.METRIC_INNER_PRODUCT)
        index.by_residual = False  # type: ignore[attr-defined]
        index.train(rows)
        index.add_with_ids(rows, ids.astype(np.int64))
        with pytest.raises(CorruptFile):
            open_index(np.asarray(faiss.serialize_index(index)), "ivf", Measured(((10, 1),), 0.1), (200, DIMENSION), lambda: rows)


# -- in a segment


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A large segment between small ones, with deletes in each."""
    one = Base(new_engine(tmp_path / "volume")).create()
    one.append(chunks(50, "a"), vectors(50, 1))
    one.append(chunks(3000, "b"), vectors(3000, 2))
    one.append(chunks(50, "c"), vectors(50, 3))
    one.delete(chunk="a3")
    one.delete(document="b-doc700")
    one.delete(chunk="c9")
    return one


def test_segments_of_both_kinds_are_searched_as_one(base: Base) -> None:
    queries = vectors(30, 9)
    rows = np.array([row for _, row in base.visible.values()])
    hits = base.searcher().search([SearchRequest(None, query, "semantic", 20) for query in queries])
    for query, found in zip(queries, hits, strict=True):
        assert [hit.score for hit in found] == pytest.approx(sorted(cosines(rows, query), reverse=True)[:20], abs=2e-5)
        assert len({hit.id for hit in found} & base.visible.keys()) == 20
        alone = base.searcher().search([SearchRequest(None, query, "semantic", 20)])[0]
        assert [hit.id for hit in alone] == [hit.id for hit in found]


def test_a_damaged_index_is_made_again_and_damaged_vectors_are_refused(base: Base) -> None:
    request = SearchRequest(None, vectors(1, 9)[0], "semantic", 20)
    expected = [hit.id for hit in base.searcher().search([request])[0]]
    folder = base.engine.volume.root / base.id / "segments" / base.engine.read_manifest(base.id, base.pointer).segments[1].id
    good = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(good[: len(good) // 2])
    observer = Counting()
    fresh = new_engine(base.engine.volume.root, observer=observer)
    assert [hit.id for hit in base.searcher(fresh).search([request])[0]] == expected
    assert observer.counted == {("rag_rebuilt_files", INDEX): 1}
    assert base.engine.verify(base.id, base.pointer) != []
    (folder / INDEX).write_bytes(good)
    assert base.engine.verify(base.id, base.pointer) == []
    raw = bytearray((folder / VECTORS).read_bytes())
    raw[77] ^= 1
    (folder / VECTORS).write_bytes(raw)
    with pytest.raises(CorruptFile):
        base.searcher(new_engine(base.engine.volume.root))
    assert base.engine.verify(base.id, base.pointer) != []


def test_a_header_says_what_was_measured(base: Base) -> None:
    entries = base.engine.read_manifest(base.id, base.pointer).segments
    headers = [SegmentHeader.decode(base.engine.volume.read(base.id, entry.header), entry) for entry in entries]
    assert [header.index for header in headers] == ["flat", "ivf", "flat"]
    assert [header.measured is None for header in headers] == [True, False, True]
    again = SegmentHeader.decode(headers[1].encode(), entries[1])
    assert again == headers[1]
    assert all(b'"format": 3' in header.encode() for header in headers)
    assert replace(headers[1], measured=None) != headers[1]
    assert headers[1].signature == SIGNATURE
