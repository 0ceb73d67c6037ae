"""One ranking from two: the mean of min-max scaled scores of each side's best 100 (design/embedding/README.md, point 3)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FUSION_DEPTH: Final = 100
Places = NDArray[np.int64]
Scores = NDArray[np.float32]


def scaled(scores: Scores) -> NDArray[np.float64]:
    """The scores moved to 0..1: the best is 1, the worst 0; all are 1 when they are equal."""
    if not len(scores):
        return np.zeros(0)
    wide = scores.astype(np.float64)
    spread = wide.max() - wide.min()
    return np.ones(len(wide)) if spread == 0 else (wide - wide.min()) / spread


def fuse(first: tuple[Places, Scores], second: tuple[Places, Scores]) -> tuple[Places, NDArray[np.float64]]:
    """Every place that either side found, ascending, with the mean of its scaled scores; 0 on a side that did not find it."""
    places = np.union1d(first[0], second[0])
    totals = np.zeros(len(places))
    for found, scores in (first, second):
        totals[np.searchsorted(places, found)] += scaled(scores) / 2
    return places, totals
