"""What can be done with hits before they are answered: diversity, and no more than so many of one document."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agenthub.rag.analysis import Analyzer
from agenthub.rag.fusion import scaled
from agenthub.rag.searcher import MAX_TOP_K, Hit

_WIDER: Final = 5
"""So many times the wanted hits are looked at where some of them will be left out."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """How to choose from the hits. `diversity` is 0 (only relevance counts) to 1 (only newness); `per_document` bounds those of one."""

    diversity: float | None = None
    per_document: int | None = None
    rerank: bool = False

    @property
    def chooses(self) -> bool:
        """Whether more hits than wanted have to be looked at."""
        return bool(self.diversity) or self.per_document is not None or self.rerank

    def depth(self, top_k: int) -> int:
        """How many hits to look at for so many wanted ones."""
        return min(MAX_TOP_K, top_k * _WIDER) if self.chooses else top_k


def choose(hits: Sequence[Hit], top_k: int, refinement: Refinement, analyzer: Analyzer) -> list[Hit]:
    """The chosen hits. Without diversity in the order they came; with it in the order of choice (maximal marginal relevance)."""
    kept = _limited(hits, refinement.per_document)
    if refinement.diversity:
        return _diverse(kept, top_k, refinement.diversity, analyzer)
    return kept[:top_k]


def _limited(hits: Sequence[Hit], most: int | None) -> list[Hit]:
    if most is None:
        return list(hits)
    counts: Counter[str] = Counter()
    kept = []
    for hit in hits:
        key = hit.document_id or hit.id  # a chunk without a document is one of its own
        counts[key] += 1
        if counts[key] <= most:
            kept.append(hit)
    return kept


def _diverse(hits: Sequence[Hit], top_k: int, diversity: float, analyzer: Analyzer) -> list[Hit]:
    """Hit after hit the one of the highest (1 - diversity) * relevance - diversity * likeness to what was chosen.

    Likeness is the cosine of the words' counts: it needs no vectors, so it is the same in every mode and on every volume.
    """
    relevance = scaled(np.array([hit.score for hit in hits], dtype=np.float32))
    words = [_Words(analyzer.terms(hit.text)) for hit in hits]
    likeness = [0.0] * len(hits)
    left, chosen = list(range(len(hits))), list[Hit]()
    while left and len(chosen) < top_k:
        best = max(left, key=lambda one: ((1 - diversity) * relevance[one] - diversity * likeness[one], -one))
        left.remove(best)
        chosen.append(hits[best])
        for one in left:
            likeness[one] = max(likeness[one], words[one].like(words[best]))
    return chosen


class _Words:
    def __init__(self, terms: Sequence[str]) -> None:
        self._counts = Counter(terms)
        self._length = math.sqrt(sum(count * count for count in self._counts.values()))

    def like(self, other: _Words) -> float:
        if not self._length or not other._length:
            return 0.0
        shared = sum(count * other._counts[term] for term, count in self._counts.items() if term in other._counts)
        return shared / (self._length * other._length)
