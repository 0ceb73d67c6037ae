"""BM25 over the keyword indexes of a snapshot. How rare a term is, is asked of all its segments."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.joining import Run
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.matching import beginning
from agenthub.rag.strings import encode

K1: Final = 1.2
B: Final = 0.75


@dataclass(frozen=True, slots=True)
class KeywordPart:
    """One segment as a snapshot sees it: its index, the one that knows the order of texts, and which rows are visible (None: all).

    Its row `r` is place `start + r` of the snapshot.
    """

    index: KeywordIndex
    ordered: Callable[[], KeywordIndex]
    visible: NDArray[np.bool_] | None
    start: int

    @property
    def end(self) -> int:
        """The place behind its last row."""
        return self.start + len(self.index.lengths)


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of one term in a part or a run of them, the first of which has the place `start`."""

    start: int
    end: int
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    visible: NDArray[np.bool_] | None

    @property
    def frequency(self) -> int:
        """How many of the rows are visible."""
        return len(self.rows) if self.visible is None else int(np.count_nonzero(self.visible[self.rows]))


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
        self._damping = np.zeros(max((part.end for part in parts), default=0), dtype=np.float32)
        for part in parts:
            self._damping[part.start : part.end] = _damping(part.index.lengths, mean)

    def scores(self, terms: Sequence[str], prefixes: Sequence[str] = (), runs: Sequence[Run] = ()) -> NDArray[np.float32]:
        """The score of every place of the snapshot; 0 for those that have none of the terms. Hidden rows are scored too.

        A prefix counts as one term that a row has as often as it has words of that beginning. Parts in `runs` are looked into
        together.
        """
        totals = np.zeros(len(self._damping), dtype=np.float32)
        joined = [(run.joined.postings, self._parts[run.first : run.end]) for run in runs]
        visible = [_visible(parts) for _, parts in joined]
        within = {at for run in runs for at in range(run.first, run.end)}
        single = [part for at, part in enumerate(self._parts) if at not in within]
        for term, repeats in Counter(terms).items():
            text = encode(term)
            found = [_Found(part.start, part.end, *part.index.postings(term), part.visible) for part in single]
            for (postings, parts), seen in zip(joined, visible, strict=True):
                found.append(_Found(parts[0].start, parts[-1].end, *postings.of_term(text), seen))
            self._add(totals, repeats, found)
        for prefix, repeats in Counter(prefixes).items():
            self._add(totals, repeats, [_Found(one.start, one.end, *beginning(one.ordered(), prefix), one.visible) for one in self._parts])
        return totals

    def _add(self, totals: NDArray[np.float32], repeats: int, found: Sequence[_Found]) -> None:
        frequency = sum(one.frequency for one in found)
        weight = np.float32(repeats * math.log1p((self._count - frequency + 0.5) / (frequency + 0.5)) * (K1 + 1))
        for one in found:
            if len(one.rows):
                total, damping = totals[one.start : one.end], self._damping[one.start : one.end]
                total[one.rows] += weight * one.counts / (one.counts + damping[one.rows])


def _damping(lengths: NDArray[np.uint32], mean: float) -> NDArray[np.float32]:
    """What BM25 adds to a count below the line: more for rows longer than the mean."""
    return (K1 * (1 - B + B * lengths / max(mean, 1e-9))).astype(np.float32)


def _visible(parts: Sequence[KeywordPart]) -> NDArray[np.bool_] | None:
    if all(part.visible is None for part in parts):
        return None
    return np.concatenate([np.ones(len(part.index.lengths), dtype=np.bool_) if part.visible is None else part.visible for part in parts])
