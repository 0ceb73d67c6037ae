from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.keyword_ranking import KeywordPart, KeywordRanking
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.strings import StringTable
from agenthub.rag.tensors import encode_arrays
from tests.rag.samples import ENGLISH, WORDS, bm25

texts = st.lists(st.lists(st.sampled_from([*WORDS, "the", "größe", "日本語"]), max_size=8).map(" ".join), min_size=1, max_size=14)


def ranking(parts: list[list[str]], hidden: Collection[int] = ()) -> KeywordRanking:
    made, at = [], 0
    for part in parts:
        visible = np.array([at + row not in hidden for row in range(len(part))], dtype=np.bool_)
        index = KeywordIndex.of(part, ENGLISH)
        made.append(KeywordPart(index, partial(lambda one: one, index), None if visible.all() else visible, at))
        at += len(part)
    return KeywordRanking(made)


@settings(max_examples=150, deadline=None)
@given(
    collection=texts,
    query=st.lists(st.sampled_from([*WORDS, "absent", "the", "日本"]), max_size=5).map(" ".join),
    cut=st.integers(0, 14),
    hidden=st.sets(st.integers(0, 13), max_size=5),
)
def test_scores_are_bm25_however_segments_are_cut_and_whatever_is_deleted(
    collection: list[str], query: str, cut: int, hidden: set[int]
) -> None:
    parts = [part for part in (collection[:cut], collection[cut:]) if part]
    scores = ranking(parts, hidden).scores(ENGLISH.query_terms(query))
    shown = [row for row in range(len(collection)) if row not in hidden]
    expected = bm25([collection[row] for row in shown], query)
    assert scores[shown].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(texts)
@settings(deadline=None)
def test_the_file_gives_the_index_back(collection: list[str]) -> None:
    index = KeywordIndex.of(collection, ENGLISH)
    again = KeywordIndex.decode(np.frombuffer(index.encode(), dtype=np.uint8), len(collection))
    for term in ("river", "the", "forest", "absent"):
        for one, other in zip(index.postings(term), again.postings(term), strict=True):
            assert one.tolist() == other.tolist()
    assert again.encode() == index.encode()


def test_postings_count_words_of_one_stem_and_keep_rows_in_order() -> None:
    index = KeywordIndex.of(["rivers river", "", "a river"], ENGLISH)
    rows, counts = index.postings("river")
    assert (rows.tolist(), counts.tolist(), index.lengths.tolist()) == ([0, 2], [2, 1], [2, 0, 2])
    assert [len(part) for part in index.postings("absent")] == [0, 0]


def test_texts_without_words_make_an_index() -> None:
    index = KeywordIndex.of(["", "!?"], ENGLISH)
    assert ranking([["", "!?"]]).scores(["river"]).tolist() == [0, 0]
    assert KeywordIndex.decode(np.frombuffer(index.encode(), dtype=np.uint8), 2).lengths.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("postings.rows", [9, 9, 9], np.uint32),
        ("postings.bounds", [0, 2, 1], np.int64),
        ("postings.bounds", [0, 1], np.int64),
        ("postings.bounds", [0, 1, 99], np.int64),
        ("postings.counts", [1], np.uint32),
        ("lengths", [1], np.uint32),
        ("lengths", [1, 1], np.int64),
        ("terms.offsets", [0, 5, 3], np.int64),
        ("terms.offsets", [0, 5, 999], np.int64),
        ("terms.offsets", [], np.int64),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, values: list[int], kind: type[np.generic]) -> None:
    """A hash can't catch a file that was written wrong; no index taken from it may leave its arrays."""
    arrays: dict[str, NDArray[Any]] = {
        "terms.data": np.frombuffer(b"alphabeta", dtype=np.uint8),
        "terms.offsets": np.array([0, 5, 9], dtype=np.int64),
        "postings.bounds": np.array([0, 2, 3], dtype=np.int64),
        "postings.rows": np.array([0, 1, 1], dtype=np.uint32),
        "postings.counts": np.array([1, 1, 1], dtype=np.uint32),
        "lengths": np.array([1, 2], dtype=np.uint32),
    }
    assert KeywordIndex.decode(np.frombuffer(encode_arrays(arrays), dtype=np.uint8), 2).postings("beta")[0].tolist() == [1]
    arrays[name] = np.array(values, dtype=kind)
    with pytest.raises(CorruptFile):
        KeywordIndex.decode(np.frombuffer(encode_arrays(arrays), dtype=np.uint8), 2)


@given(st.lists(st.text(max_size=4), max_size=12), st.text(max_size=3))
@settings(deadline=None)
def test_a_string_table_is_a_sorted_set(members: list[str], asked: str) -> None:
    table, expected = StringTable.of(members), sorted(set(members))
    assert [table[index].decode("utf-8", "surrogatepass") for index in range(len(table))] == expected
    assert table.find(asked) == (expected.index(asked) if asked in expected else -1)
    assert table.lower(asked) == sum(member < asked for member in expected)
    assert table.upper(asked) == sum(member <= asked for member in expected)
    assert table.containing(asked).tolist() == [index for index, member in enumerate(expected) if asked in member]
    assert table.sound()
