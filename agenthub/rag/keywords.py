"""BM25 over immutable postings. A segment holds counts only; how rare a term is, is asked of all segments of a snapshot."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.analysis import Analyzer
from agenthub.rag.strings import StringTable
from agenthub.rag.tensors import decode_arrays, encode_arrays

K1: Final = 1.2
B: Final = 0.75
_ARRAYS: Final[dict[str, type[np.generic]]] = {
    "terms.data": np.uint8,
    "terms.offsets": np.int64,
    "postings.bounds": np.int64,
    "postings.rows": np.uint32,
    "postings.counts": np.uint32,
    "lengths": np.uint32,
}


class _Numbers(dict[str, int]):
    """A number for every term, in the order they come."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


@dataclass(frozen=True, slots=True)
class KeywordIndex:
    """Which rows have which terms, how often. Term `t` has the postings `bounds[t]` to `bounds[t + 1]`, rows ascending.

    `lengths` counts the terms of every row, repeats included.
    """

    terms: StringTable
    bounds: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    lengths: NDArray[np.uint32]

    @classmethod
    def of(cls, texts: Iterable[str], analyzer: Analyzer) -> KeywordIndex:
        """The index of these rows' texts."""
        numbers = _Numbers()
        lengths: list[int] = []
        found = array("q")
        for text in texts:
            terms = analyzer.terms(text)
            lengths.append(len(terms))
            found.extend(map(numbers.__getitem__, terms))
        table = StringTable.of(numbers)
        ranks = np.empty(len(numbers), dtype=np.int64)
        ranks[[numbers[table[index].decode("utf-8", "surrogatepass")] for index in range(len(table))]] = np.arange(len(table))
        return cls(table, *_postings(ranks[np.frombuffer(found, dtype=np.int64)], np.array(lengths, dtype=np.uint32), len(table)))

    @classmethod
    def decode(cls, data: NDArray[np.uint8], count: int) -> KeywordIndex:
        """The index in a keyword file of a segment with `count` rows.

        Raises: CorruptFile when its arrays don't fit each other.
        """
        arrays = cast("dict[str, NDArray[Any]]", decode_arrays(data, _ARRAYS))
        table = StringTable(arrays["terms.data"], arrays["terms.offsets"])
        index = cls(table, arrays["postings.bounds"], arrays["postings.rows"], arrays["postings.counts"], arrays["lengths"])
        if not index._sound(count):
            raise CorruptFile("a keyword file's arrays do not fit each other")
        return index

    def encode(self) -> bytes:
        """The bytes of the keyword file."""
        return encode_arrays(
            {
                "terms.data": self.terms.data,
                "terms.offsets": self.terms.offsets,
                "postings.bounds": self.bounds,
                "postings.rows": self.rows,
                "postings.counts": self.counts,
                "lengths": self.lengths,
            }
        )

    def postings(self, term: str) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The rows that have the term, and how often each has it."""
        index = self.terms.find(term)
        lower, upper = (0, 0) if index < 0 else (self.bounds[index], self.bounds[index + 1])
        return self.rows[lower:upper], self.counts[lower:upper]

    @property
    def size_bytes(self) -> int:
        """Memory used."""
        arrays = (self.terms.data, self.terms.offsets, self.bounds, self.rows, self.counts, self.lengths)
        return sum(array.nbytes for array in arrays)

    def _sound(self, count: int) -> bool:
        bounds, rows = self.bounds, self.rows
        return (
            self.terms.sound()
            and len(self.lengths) == count
            and len(bounds) == len(self.terms) + 1
            and bounds[0] == 0
            and int(bounds[-1]) == len(rows) == len(self.counts)
            and bool(np.all(bounds[1:] >= bounds[:-1]))
            and bool(np.all(rows < count))
        )


def _postings(
    terms: NDArray[np.int64], lengths: NDArray[np.uint32], term_count: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """Bounds, rows and counts from the term of every word in reading order, by one sort."""
    row_count = max(len(lengths), 1)
    words = terms * row_count + np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    pairs, counts = np.unique(words, return_counts=True)
    bounds = np.searchsorted(pairs, np.arange(term_count + 1, dtype=np.int64) * row_count).astype(np.int64)
    return bounds, (pairs % row_count).astype(np.uint32), counts.astype(np.uint32), lengths


@dataclass(frozen=True, slots=True)
class KeywordPart:
    """One segment as a snapshot sees it: its index, and which rows are visible (None: all)."""

    index: KeywordIndex
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

    def scores(self, terms: Sequence[str]) -> list[NDArray[np.float32]]:
        """For every segment, the score of every row; 0 for rows that have none of the terms. Hidden rows are scored too."""
        totals = [np.zeros(len(part.index.lengths), dtype=np.float32) for part in self._parts]
        for term, repeats in Counter(terms).items():
            found = [part.index.postings(term) for part in self._parts]
            frequency = sum(_visible_count(part, rows) for part, (rows, _) in zip(self._parts, found, strict=True))
            weight = repeats * math.log1p((self._count - frequency + 0.5) / (frequency + 0.5)) * (K1 + 1)
            for total, damping, (rows, counts) in zip(totals, self._damping, found, strict=True):
                if len(rows):
                    total[rows] += np.float32(weight) * counts / (counts + damping[rows])
        return totals


def _damping(lengths: NDArray[np.uint32], mean: float) -> NDArray[np.float32]:
    """What BM25 adds to a count below the line: more for rows longer than the mean."""
    return (K1 * (1 - B + B * lengths / max(mean, 1e-9))).astype(np.float32)


def _visible_count(part: KeywordPart, rows: NDArray[np.uint32]) -> int:
    return len(rows) if part.visible is None else int(np.count_nonzero(part.visible[rows]))
