"""Which rows of a segment have a phrase, or words that begin in a given way, by its keyword index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.keywords import KeywordIndex, Postings
from agenthub.rag.text_order import TextOrder

Phrase = tuple[tuple[str, int], ...]
"""Terms, each with its place in the phrase."""


def beginning(index: KeywordIndex, prefix: str) -> Postings:
    """The rows that have words that begin so, and how many such words each has."""
    found = [_words_of(index, term, standing) for term, standing in _order(index).beginning(prefix)]
    if len(found) == 1:
        return found[0]
    totals = np.bincount(
        np.concatenate([index.rows[:0], *(rows for rows, _ in found)]),
        weights=np.concatenate([index.lengths[:0], *(counts for _, counts in found)]),
    )
    rows = np.flatnonzero(totals)
    return rows.astype(np.uint32), totals[rows].astype(np.uint32)


def _words_of(index: KeywordIndex, term: int, standing: NDArray[np.bool_] | None) -> Postings:
    """The rows that have the term, and at how many of these places of it (None: all)."""
    rows, counts = index.postings_of(term)
    if standing is None:
        return rows, counts
    numbers, times = np.unique(np.repeat(rows, counts)[standing], return_counts=True)
    return numbers, times.astype(np.uint32)


def wanted_rows(index: KeywordIndex, phrases: Sequence[Phrase], excluded: Sequence[Phrase]) -> NDArray[np.bool_]:
    """Which rows have all of the phrases and none of the excluded ones."""
    wanted = np.ones(len(index.lengths), dtype=np.bool_)
    for phrase in phrases:
        wanted &= _having(index, phrase)
    for phrase in excluded:
        wanted &= ~_having(index, phrase)
    return wanted


def _having(index: KeywordIndex, phrase: Phrase) -> NDArray[np.bool_]:
    has = np.zeros(len(index.lengths), dtype=np.bool_)
    numbers = {term: index.terms.find(term) for term, _ in phrase}
    if min(numbers.values()) >= 0:
        has[_rows(index, [(numbers[term], place) for term, place in phrase])] = True
    return has


def _rows(index: KeywordIndex, phrase: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The rows that have the terms with these numbers in these places: the rarest first, the others only where those stand."""
    order = _order(index)
    if len(phrase) == 1:
        return index.postings_of(phrase[0][0])[0].astype(np.int64)
    # Row and place as one number. Rows are further apart than any two places, so that no phrase reaches into the next.
    width = int(order.places.max(initial=0)) + max(place for _, place in phrase) + 1
    standing = {number: _standing(index, order, number, width) for number, _ in phrase}
    (first, place), *others = sorted(phrase, key=lambda one: len(standing[one[0]]))
    starts = standing[first] - place
    for number, place in others:
        starts = starts[_contains(standing[number], starts + place)]
    return starts // width


def _standing(index: KeywordIndex, order: TextOrder, number: int, width: int) -> NDArray[np.int64]:
    """Where a term stands: row times width plus place, ascending."""
    rows, counts = index.postings_of(number)
    return np.repeat(rows.astype(np.int64), counts) * width + order.places[order.bounds[number] : order.bounds[number + 1]]


def _contains(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.searchsorted(ascending, values)
    found[found == len(ascending)] = 0
    return np.equal(ascending[found], values)


def _order(index: KeywordIndex) -> TextOrder:
    assert index.order is not None, "an index of an older format has to be made again first"
    return index.order
