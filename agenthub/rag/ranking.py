"""The best of many scores, and the nearest vectors over several segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.choosing import Chosen
from agenthub.rag.faiss_codec import FlatIndex
from agenthub.rag.joining import Run
from agenthub.rag.vector_index import VectorIndex
from agenthub.rag.vectors import Vectors
from agenthub.rag.views import SegmentView


@dataclass(frozen=True, slots=True)
class Ranked:
    """Places and scores, best first; equal scores by place."""

    places: NDArray[np.int64]
    scores: NDArray[np.float32]

    def head(self, count: int) -> Ranked:
        """The best `count`."""
        return Ranked(self.places[:count], self.scores[:count])

    def pairs(self) -> list[tuple[int, float]]:
        """Place and score of each."""
        return list(zip(self.places.tolist(), self.scores.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Live:
    """A segment with the rows a request may find (None: all)."""

    view: SegmentView
    chosen: Chosen | None

    @property
    def count(self) -> int:
        """How many rows that are."""
        return self.view.segment.count if self.chosen is None else self.chosen.count

    @property
    def start(self) -> int:
        """The place of its first row."""
        return self.view.start

    @property
    def index(self) -> VectorIndex:
        """The index of its rows, which is in this process."""
        index = self.view.segment.index
        assert index is not None, "a segment of another adapter"
        return index


@dataclass(frozen=True, slots=True)
class LiveRun:
    """Segments side by side, joined, with the rows a request may find (None: all); as `Live`."""

    index: FlatIndex
    start: int
    chosen: Chosen | None

    @property
    def count(self) -> int:
        """How many rows that are."""
        return len(self.index.vectors) if self.chosen is None else self.chosen.count

    @classmethod
    def of(cls, index: FlatIndex, live: Sequence[Live]) -> LiveRun:
        """The run of these."""
        if all(one.chosen is None for one in live):
            return cls(index, live[0].start, None)
        rows = [np.ones(one.view.segment.count, dtype=np.bool_) if one.chosen is None else one.chosen.rows for one in live]
        return cls(index, live[0].start, Chosen.of(np.concatenate(rows)))


def together(live: Sequence[Live], runs: Sequence[Run]) -> list[Live | LiveRun]:
    """The same rows, with runs that have an index as one."""
    found: list[Live | LiveRun] = []
    done = 0
    for run in runs:
        if run.joined.index is not None:
            found += [*live[done : run.first], LiveRun.of(run.joined.index, live[run.first : run.end])]
            done = run.end
    return [*found, *live[done:]]


def best(places: NDArray[np.int64], scores: NDArray[np.float32], count: int) -> Ranked:
    """The best `count` of these; without sorting the rest."""
    if len(scores) > count:
        worst = np.partition(scores, len(scores) - count)[len(scores) - count]
        enough = scores >= worst
        places, scores = places[enough], scores[enough]
    order = np.lexsort((places, -scores))[:count]
    return Ranked(places[order].astype(np.int64, copy=False), scores[order])


def nearest(live: Sequence[Live | LiveRun], queries: Vectors, count: int, brute_force_fraction: float) -> list[Ranked]:
    """For each query the `count` live rows of highest cosine over all segments: as many as there are, whatever is excluded."""
    found = [_candidates(one, queries, count, brute_force_fraction) for one in live if one.count]
    if len(found) == 1 and len(queries) == 1:
        return [_in_order(*found[0], count)]
    if not found:
        return [Ranked(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)) for _ in queries]
    scores = np.clip(np.concatenate([scores for scores, _ in found], axis=1), -1, 1)
    places = np.concatenate([places for _, places in found], axis=1)
    if np.all(there := places >= 0):
        return [best(one, its_scores, count) for one, its_scores in zip(places, scores, strict=True)]
    return [best(places[at][there[at]], scores[at][there[at]], count) for at in range(len(queries))]


def _in_order(scores: Vectors, places: NDArray[np.int64], count: int) -> Ranked:
    """The best `count` of one segment's answer to one query, which is in order but for equal scores."""
    only, where = np.minimum(np.maximum(scores[0], -1), 1), places[0]
    if where.min() < 0:
        only, where = only[where >= 0], where[where >= 0]
    order = np.lexsort((where, -only))[:count]
    return Ranked(where[order], only[order])


def _candidates(live: Live | LiveRun, queries: Vectors, count: int, brute_force_fraction: float) -> tuple[Vectors, NDArray[np.int64]]:
    """The best `count` live rows at least of a segment or run, as scores and places; the place -1 stands for none."""
    scores, rows = live.index.nearest(queries, count, live.chosen, brute_force_fraction)
    return scores, rows if live.start == 0 else np.where(rows >= 0, rows + live.start, -1)
