"""The measures of a ranking, by hand."""

from __future__ import annotations

import math

import pytest

from agenthub.rag.evaluating import Quality, quality


@pytest.mark.parametrize(
    ("ranking", "expected", "k", "wanted"),
    [
        ("abc", "a", 3, Quality(1, 1, 1)),
        ("abc", "b", 3, Quality(1 / math.log2(3), 1, 1 / 2)),
        ("abc", "ac", 3, Quality((1 + 1 / 2) / (1 + 1 / math.log2(3)), 1, 1)),
        ("abc", "cx", 3, Quality((1 / 2) / (1 + 1 / math.log2(3)), 1 / 2, 1 / 3)),
        ("abc", "c", 2, Quality(0, 0, 0)),
        ("", "c", 2, Quality(0, 0, 0)),
        ("ab", "abcde", 2, Quality(1, 2 / 5, 1)),
    ],
)
def test_measures(ranking: str, expected: str, k: int, wanted: Quality) -> None:
    found = quality(list(ranking), list(expected), k)
    assert (found.ndcg, found.recall, found.reciprocal_rank) == pytest.approx((wanted.ndcg, wanted.recall, wanted.reciprocal_rank))
