from __future__ import annotations

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, InvalidInput
from agenthub.rag.choosing import Chosen
from agenthub.rag.configuration import RagSettings
from agenthub.rag.faiss_codec import build_flat, open_index
from agenthub.rag.vectors import decode_vectors, unit_vectors
from tests.rag.samples import DIMENSION, vectors

ROWS = unit_vectors(vectors(20, 1))
QUERY = unit_vectors(vectors(1, 2))


def file_of(rows: NDArray[np.float32] = ROWS) -> NDArray[np.uint8]:
    return np.frombuffer(build_flat(rows), dtype=np.uint8).copy()


def test_an_index_is_used_in_place() -> None:
    data = file_of()
    index = open_index(data, "flat", 20, DIMENSION)
    assert np.shares_memory(index.vectors, data)
    assert np.array_equal(index.vectors, ROWS)
    scores, rows = index.search(QUERY, 100)
    assert rows[0].tolist() == np.argsort(-(ROWS @ QUERY[0])).tolist()
    assert scores[0] == pytest.approx(np.sort(ROWS @ QUERY[0])[::-1], abs=1e-6)


def test_none_stands_where_too_few_are_live() -> None:
    live = np.zeros(20, dtype=np.bool_)
    live[[3, 5]] = True
    _, rows = open_index(file_of(), "flat", 20, DIMENSION).search(QUERY, 4, Chosen.of(live))
    assert sorted(rows[0].tolist()) == [-1, -1, 3, 5]
    _, few = open_index(file_of(), "flat", 20, DIMENSION).search_rows(QUERY, np.array([3, 5]), 4)
    assert sorted(few[0].tolist()) == [3, 5]


def test_no_bit_of_the_header_can_change_what_is_searched() -> None:
    """Without the hash that is checked before: refused, or the same answer, and never a crash."""
    expected = open_index(file_of(), "flat", 20, DIMENSION).search(QUERY, 5)[1].tolist()
    refused = 0
    for bit in range(45 * 8):
        data = file_of()
        data[bit // 8] ^= 1 << (bit % 8)
        try:
            assert open_index(data, "flat", 20, DIMENSION).search(QUERY, 5)[1].tolist() == expected
        except CorruptFile:
            refused += 1
    assert refused >= 200


@pytest.mark.parametrize("kind", ["IndexFlatL2", "IndexHNSWFlat", "IndexLSH"])
def test_other_kinds_are_refused(kind: str) -> None:
    arguments = {"IndexFlatL2": (DIMENSION,), "IndexHNSWFlat": (DIMENSION, 4), "IndexLSH": (DIMENSION, 16)}[kind]
    index = getattr(faiss, kind)(*arguments)
    index.add(ROWS)
    data = np.asarray(faiss.serialize_index(index))
    for claimed in ("flat", "hnsw", ""):
        with pytest.raises(CorruptFile):
            open_index(data, claimed, 20, DIMENSION)


@pytest.mark.parametrize(("count", "dimension"), [(19, DIMENSION), (21, DIMENSION), (20, 7), (10, 16), (40, 4), (0, DIMENSION)])
def test_other_counts_are_refused(count: int, dimension: int) -> None:
    with pytest.raises(CorruptFile):
        open_index(file_of(), "flat", count, dimension)
    with pytest.raises(CorruptFile):
        decode_vectors(np.zeros(20 * DIMENSION * 4 + 1, dtype=np.uint8), count, dimension)


@pytest.mark.parametrize("value", [1e-40, 1e-20, 1.0, 1e30, 3e38])
def test_any_finite_length_is_scaled_to_one(value: float) -> None:
    units = unit_vectors(np.full((3, DIMENSION), value, dtype=np.float32))
    assert np.linalg.norm(units, axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 2, 2), (1, 8193)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        unit_vectors(np.ones(shape, dtype=np.float32))


@pytest.mark.parametrize("changes", [{"segment_cache_bytes": -1}, {"free_space_floor_bytes": -1}, {"brute_force_fraction": 1.5}])
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidInput) as refused:
        RagSettings(**changes)  # type: ignore[arg-type]
    assert refused.value.field == next(iter(changes))


def test_unit_vectors_are_not_copied_and_others_never_changed() -> None:
    """A merge holds the vectors of a large segment once; a caller's own vectors stay as they were."""
    assert np.shares_memory(unit_vectors(ROWS), ROWS)
    given = vectors(20, 1)
    before = given.copy()
    assert not np.shares_memory(unit_vectors(given), given)
    assert np.array_equal(given, before)
    mixed = np.concatenate([ROWS, vectors(5, 3)])
    assert np.array_equal(unit_vectors(mixed)[:20], ROWS)
