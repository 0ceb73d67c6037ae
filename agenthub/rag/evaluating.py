"""How good a ranking is: nDCG, recall and reciprocal rank of one question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """All 0..1. `reciprocal_rank` is that of the first expected one, 0 where none is among the first k."""

    ndcg: float
    recall: float
    reciprocal_rank: float


def quality(ranking: Sequence[str], expected: Sequence[str], k: int) -> Quality:
    """The quality of a ranking of different things; all expected ones count the same."""
    wanted = set(expected)
    places = [place for place, one in enumerate(ranking[:k]) if one in wanted]
    gained = sum(1 / math.log2(place + 2) for place in places)
    best = sum(1 / math.log2(place + 2) for place in range(min(len(wanted), k)))
    return Quality(gained / best if best else 0.0, len(places) / len(wanted) if wanted else 0.0, 1 / (places[0] + 1) if places else 0.0)
