"""An approximate index that knows how approximate it is: lists of eight-bit codes to find candidates, the vectors to judge them.

What it may miss is bounded on three sides. How many lists to look into was measured on the segment's own vectors when it was
written. Under a filter, which may choose other rows than the near ones, further lists are looked into as long as their centres
are near enough that a row of theirs could be better than the last answer. And a ranking by codes is believed only if the last
candidate is worse than the last answer by more than codes can be wrong; otherwise more candidates are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.choosing import Chosen
from agenthub.rag.faiss_codec import CodeLists, build_lists, exact, open_lists
from agenthub.rag.vectors import Vectors

DEPTHS: Final = (10, 30, 100, 300, 1000)
_RECALL: Final = 0.997
_SAMPLES: Final = 96
_SEED: Final = 311
_FEW_ROWS: Final = 512
"""So many chosen rows are compared directly: 0.1 ms."""
_SCANNED_ROWS: Final = 1024
"""Up to so many chosen rows all lists are looked into: 0.2 ms, and no filter can hide a row from that."""
_STRANGERS: Final = 4096
_STRANGERS_RECALL: Final = 0.9999
"""A filter's best rows are the extremes of its far ones: the ten best of some thousands."""
_EXTRA: Final = 16
_DEVIATIONS: Final = 5.0
"""An error of codes beyond five standard deviations is not expected in a thousand million comparisons."""
_MOST_CANDIDATES: Final = 2048
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of an index when it was made.

    `probes`: (how many nearest rows, how many lists to look into for them), ascending. `reach`: by how much a row's cosine with a
    query exceeds that of its list's centre at most, be it a near row or a stranger that a filter left.
    """

    probes: tuple[tuple[int, int], ...]
    reach: float


def build_inverted(vectors: Vectors) -> tuple[memoryview, Measured]:
    """The index of these unit vectors as the bytes of its file, and what was measured of it."""
    data = build_lists(vectors, list_count_of(len(vectors)))
    return data, measured(open_lists(np.frombuffer(data, dtype=np.uint8), *vectors.shape), vectors)


def list_count_of(count: int) -> int:
    """How many lists so many rows are put into: about as many as each list has rows."""
    return max(1, round(math.sqrt(count)))


def measured(lists: CodeLists, vectors: Vectors) -> Measured:
    """For every depth the fewest lists in which 99.7 % of a sample's true nearest rows are, with a fourth to spare; and the reach.

    The sample is rows, rows with noise, and directions between two rows: questions are not stored texts.
    """
    if len(vectors) < _FEW_ROWS:
        return Measured(((1, len(lists.centres)),), 0.0)
    queries = _sample(vectors)
    depths = [depth for depth in DEPTHS if depth <= len(vectors) // 4]
    scores, rows = exact(queries, vectors, depths[-1] + 1)
    owners = lists.owners[rows[:, 1:]]  # without the row that is the sample itself
    centred = queries @ lists.centres.T
    order = np.argsort(-centred, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    places = np.take_along_axis(ranks, owners, axis=1)
    probes = []
    for depth in depths:
        needed = int(np.quantile(places[:, :depth], _RECALL, method="higher")) + 1
        probes.append((depth, min(needed + math.ceil(needed / 4), order.shape[1])))
    near = float(np.quantile(scores[:, 1:] - np.take_along_axis(centred, owners, axis=1), _RECALL))
    reach = max(0.0, near, _reach_of_strangers(lists, vectors, queries, centred))
    return Measured(tuple(probes), math.ceil(reach * 1e6) / 1e6)


def _reach_of_strangers(lists: CodeLists, vectors: Vectors, queries: Vectors, centred: Vectors) -> float:
    rows = np.random.default_rng(_SEED).integers(len(vectors), size=_STRANGERS)
    return float(np.quantile(queries @ vectors[rows].T - centred[:, lists.owners[rows]], _STRANGERS_RECALL))


def _sample(vectors: Vectors) -> Vectors:
    random = np.random.default_rng(_SEED)
    first = vectors[random.integers(len(vectors), size=_SAMPLES)].copy()
    third = _SAMPLES // 3
    first[:third] += random.standard_normal((third, vectors.shape[1]), dtype=np.float32) * np.float32(0.7 / math.sqrt(vectors.shape[1]))
    first[third : 2 * third] += vectors[random.integers(len(vectors), size=third)] * np.float32(0.5)
    lengths = np.maximum(np.linalg.norm(first, axis=1, keepdims=True), np.float32(1e-6))
    return np.ascontiguousarray(first / lengths, dtype=np.float32)


def open_inverted(data: NDArray[np.uint8], vectors: Vectors, facts: Measured) -> InvertedIndex:
    """The index in these bytes over the segment's vectors; both are used in place and must not change.

    Raises: CorruptFile when they don't fit each other.
    """
    lists = open_lists(data, *vectors.shape)
    if not facts.probes or any(not 1 <= needed <= len(lists.centres) for _, needed in facts.probes):
        raise CorruptFile("an index was measured to need lists that it does not have")
    return InvertedIndex(lists, vectors, facts)


@dataclass(frozen=True)  # without slots, so that what is computed from it once can be kept
class InvertedIndex:
    """An opened index with the vectors it was made of."""

    lists: CodeLists
    vectors: Vectors
    facts: Measured

    @property
    def size_bytes(self) -> int:
        """Memory used, shared or not."""
        return self.lists.data.nbytes + self.lists.owners.nbytes + self.vectors.nbytes

    def agrees_with(self, vectors: Vectors) -> bool:
        """Whether it was made of these vectors: every code is the nearest there is."""
        steps = self.lists.spread / np.float32(255)
        off = np.abs(self.lists.rough_vectors() - vectors)
        return bool(np.all(off <= steps * np.float32(0.51) + np.float32(1e-6)))

    def nearest(self, queries: Vectors, count: int, chosen: Chosen | None, brute_force_fraction: float) -> tuple[Vectors, Rows]:
        """Cosines and rows of each query's best `count` among the chosen rows, best first; the row -1 stands for none."""
        total = len(self.vectors) if chosen is None else chosen.count
        count = min(count, total)
        if chosen is not None and total <= max(count, min(_FEW_ROWS, len(self.vectors) * brute_force_fraction)):
            return self._compared(queries, count, chosen)
        every, candidates = len(self.lists.centres), count + max(_EXTRA, count // 2)
        if chosen is not None and total <= _SCANNED_ROWS:
            return self._judged(queries, count, every, candidates, chosen)
        probes = self._probes(count * len(self.vectors) / total)
        scores, rows = self._judged(queries, count, probes, candidates, chosen)
        if probes < every:
            needed = self._needed(queries, scores[:, -1], filtered=chosen is not None)
            if np.any(more := needed > probes):
                scores[more], rows[more] = self._judged(queries[more], count, int(needed.max()), candidates, chosen)
        return scores, rows

    def _compared(self, queries: Vectors, count: int, chosen: Chosen | None) -> tuple[Vectors, Rows]:
        """By comparing every chosen row."""
        if chosen is None:
            return exact(queries, self.vectors, count)
        scores, places = exact(queries, self.vectors[chosen.numbers], count)
        return scores, np.where(places >= 0, chosen.numbers[places], -1)

    def _probes(self, depth: float) -> int:
        """How many lists to look into for so many nearest rows."""
        return next((needed for measured, needed in self.facts.probes if measured >= depth), len(self.lists.centres))

    def _needed(self, queries: Vectors, worst: Vectors, *, filtered: bool) -> NDArray[np.int64]:
        """How many lists may have a better row than the worst answer, which is minus infinity where answers are missing.

        Without a filter the measured number stands unless answers are missing.
        """
        if not filtered:
            return np.where(np.isfinite(worst), 0, len(self.lists.centres))
        limits = worst - np.float32(self.facts.reach)
        needed: NDArray[np.int64] = np.sum(queries @ self.lists.centres.T >= limits[:, np.newaxis], axis=1)
        return needed

    def _judged(self, queries: Vectors, count: int, probes: int, candidates: int, chosen: Chosen | None) -> tuple[Vectors, Rows]:
        """The best `count` of so many candidates by their vectors, with more candidates where these may not be enough."""
        total = len(self.vectors) if chosen is None else chosen.count
        candidates = min(candidates, total)
        rough, rows = self.lists.search(queries, candidates, probes, chosen)
        scores = self._scores(queries, rows)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        best, best_rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
        if candidates == total:
            return best, best_rows
        doubtful = (rows[:, -1] >= 0) & (best[:, -1] < rough[:, -1] + self._doubt(queries))
        if doubtful.any():
            best[doubtful], best_rows[doubtful] = self._judged_again(queries[doubtful], count, probes, 4 * candidates, chosen)
        return best, best_rows

    def _judged_again(self, queries: Vectors, count: int, probes: int, candidates: int, chosen: Chosen | None) -> tuple[Vectors, Rows]:
        if candidates > _MOST_CANDIDATES:
            return self._compared(queries, count, chosen)
        return self._judged(queries, count, probes, candidates, chosen)

    def _scores(self, queries: Vectors, rows: Rows) -> Vectors:
        """The true cosine of every candidate; minus infinity for none."""
        # The row -1 is the last one here: a score for nothing, taken away below.
        scores: Vectors = np.matmul(self.vectors.take(rows, axis=0), queries[:, :, np.newaxis])[:, :, 0]
        if rows[:, -1].min() < 0:  # what is missing stands at the end
            scores[rows < 0] = -np.inf
        return scores

    def _doubt(self, queries: Vectors) -> Vectors:
        """By how much codes may misjudge a cosine with each query: rounding errors are even and independent."""
        doubt: Vectors = np.sqrt((queries * queries) @ self._variances)
        return doubt

    @cached_property
    def _variances(self) -> Vectors:
        """Of each dimension: what a code's rounding adds to the square of the doubt."""
        steps = self.lists.spread / np.float32(255)
        variances: Vectors = steps * steps * np.float32(_DEVIATIONS**2 / 12)
        return variances
