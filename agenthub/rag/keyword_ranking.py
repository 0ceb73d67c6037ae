"""BM25 over the keyword indexes of a snapshot. How rare a term is, is asked of all its segments."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.keywords import KeywordIndex, Postings
from agenthub.rag.matching import beginning

K1: Final = 1.2
B: Final = 0.75


@dataclass(frozen=True, slots=True)
class KeywordPart:
    """One segment as a snapshot sees it: its index, the one that knows the order of texts, and which rows are visible (None: all)."""

    index: KeywordIndex
    ordered: Callable[[], KeywordIndex]
    visible: NDArray[np.bool_] | None


class KeywordRanking:
    """BM25 (k1 1.2, b 0.75) over the visible chunks of a snapshot.

    Document frequency, number and mean length count exactly the visible chunks of all segments, so a score depends neither
    on how chunks are spread over segments nor on deleted ones. A filter does not change it.
    """

    def __init__(self, parts: Sequence[KeywordPart]) -> None:
        lengths = [part.index.lengths if part.visible is None else part.index.lengths[part.visible] for part in parts]
        self._parts = parts
        self._count = sum(len(item) for item in lengths)
        mean = sum(int(item.sum(dtype=np.int64)) for item in lengths) / max(self._count, 1)
        self._damping = [_damping(part.index.lengths, mean) for part in parts]

    def scores(self, terms: Sequence[str], prefixes: Sequence[str] = ()) -> list[NDArray[np.float32]]:
        """For every segment, the score of every row; 0 for rows that have none of them. Hidden rows are scored too.

        A prefix counts as one term that a row has as often as it has words of that beginning.
        """
        totals = [np.zeros(len(part.index.lengths), dtype=np.float32) for part in self._parts]
        for term, repeats in Counter(terms).items():
            self._add(totals, repeats, [part.index.postings(term) for part in self._parts])
        for prefix, repeats in Counter(prefixes).items():
            self._add(totals, repeats, [beginning(part.ordered(), prefix) for part in self._parts])
        return totals

    def _add(self, totals: Sequence[NDArray[np.float32]], repeats: int, found: Sequence[Postings]) -> None:
        frequency = sum(_visible_count(part, rows) for part, (rows, _) in zip(self._parts, found, strict=True))
        weight = repeats * math.log1p((self._count - frequency + 0.5) / (frequency + 0.5)) * (K1 + 1)
        for total, damping, (rows, counts) in zip(totals, self._damping, found, strict=True):
            if len(rows):
                total[rows] += np.float32(weight) * counts / (counts + damping[rows])


def _damping(lengths: NDArray[np.uint32], mean: float) -> NDArray[np.float32]:
    """What BM25 adds to a count below the line: more for rows longer than the mean."""
    return (K1 * (1 - B + B * lengths / max(mean, 1e-9))).astype(np.float32)


def _visible_count(part: KeywordPart, rows: NDArray[np.uint32]) -> int:
    return len(rows) if part.visible is None else int(np.count_nonzero(part.visible[rows]))
