"""The keyword index of a segment: which terms its rows have, how often and where. Immutable, and without scores."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, InvalidInput
from agenthub.rag.analysis import Analyzer, fold
from agenthub.rag.strings import StringTable, encode
from agenthub.rag.tensors import Expected, decode_arrays, encode_arrays
from agenthub.rag.text_order import TEXT_ORDER, Numbers, TextOrder, Words, narrow

Postings = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""Rows, ascending, and how often each has what was asked for."""

_POSTINGS: Final[Expected] = {
    "terms.data": (np.uint8,),
    "terms.offsets": (np.int64,),
    "postings.bounds": (np.int64,),
    "postings.rows": (np.uint32,),
    "postings.counts": (np.uint8, np.uint16, np.uint32),
    "lengths": (np.uint32,),
}
_KEYS: Final = 2**63
"""A term, a row and a place are sorted as one number below this."""


@dataclass(frozen=True, slots=True)
class KeywordIndex:
    """Which rows have which terms, how often. Term `t` has the postings `bounds[t]` to `bounds[t + 1]`, rows ascending.

    `lengths` counts the terms of every row, repeats included. `order` is None for a file of an older format.
    """

    terms: StringTable
    bounds: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: Numbers
    lengths: NDArray[np.uint32]
    order: TextOrder | None

    @classmethod
    def of(cls, texts: Iterable[str], analyzer: Analyzer) -> KeywordIndex:
        """The index of these rows' texts.

        Raises: InvalidInput, field `items`, when there is more than one index can hold: thousands of millions of words.
        """
        return _Gathering(texts, analyzer).index()

    @classmethod
    def decode(cls, data: NDArray[np.uint8], count: int) -> KeywordIndex:
        """The index in a keyword file of a segment with `count` rows, over the file's own bytes.

        Raises: CorruptFile when its arrays don't fit each other.
        """
        arrays = cast("dict[str, NDArray[Any]]", decode_arrays(data, _POSTINGS, TEXT_ORDER))
        table = StringTable(arrays["terms.data"], arrays["terms.offsets"])
        bounds, rows, counts, lengths = (arrays[name] for name in ("postings.bounds", "postings.rows", "postings.counts", "lengths"))
        index = cls(table, bounds, rows, counts, lengths, None)
        if not index._sound(count):
            raise CorruptFile("a keyword file's arrays do not fit each other")
        return index if "places" not in arrays else replace(index, order=TextOrder.decode(arrays, index._occurrences()))

    def _occurrences(self) -> NDArray[np.int64]:
        """How often each term occurs.

        Raises: CorruptFile when one never does: files with places have no such terms.
        """
        if np.any(self.bounds[1:] == self.bounds[:-1]):
            raise CorruptFile("a keyword file has a term that no row has")
        return np.add.reduceat(self.counts, self.bounds[:-1], dtype=np.int64)

    def encode(self) -> bytes:
        """The bytes of the keyword file."""
        return encode_arrays(self._arrays())

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            "terms.data": self.terms.data,
            "terms.offsets": self.terms.offsets,
            "postings.bounds": self.bounds,
            "postings.rows": self.rows,
            "postings.counts": self.counts,
            "lengths": self.lengths,
        }
        return arrays if self.order is None else arrays | self.order.arrays()

    def postings(self, term: str) -> Postings:
        """The rows that have the term, and how often each has it."""
        index = self.terms.find(term)
        return (self.rows[:0], self.counts[:0].astype(np.uint32)) if index < 0 else self.postings_of(index)

    def postings_of(self, number: int) -> Postings:
        """The same for the term with this number."""
        span = slice(self.bounds[number], self.bounds[number + 1])
        return self.rows[span], self.counts[span].astype(np.uint32)

    @property
    def size_bytes(self) -> int:
        """Its length in memory, whether that is its own or a mapped file's."""
        return sum(array.nbytes for array in self._arrays().values())

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


class _Numbers(dict[str, int]):
    """A number for every text, in the order they come."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


class _Gathering:
    """Reads texts once: every word and part gets a number, and only the distinct words are stemmed."""

    def __init__(self, texts: Iterable[str], analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._words = _Numbers()
        self._parts = _Numbers()  # numbered downwards from -1, so that they stay apart from words
        self._lengths = array("q")
        self._found = array("q")
        self._places = array("q")
        for text in texts:
            self._take(text)

    def _take(self, text: str) -> None:
        reading = self._analyzer.read(text)
        self._lengths.append(len(reading.words) + len(reading.parts))
        self._found.extend(map(self._words.__getitem__, reading.words))
        self._places.extend(reading.word_places)
        if reading.parts:
            self._found.extend(~self._parts[part] for part in reading.parts)
            self._places.extend(reading.part_places)

    def index(self) -> KeywordIndex:
        """All that was read."""
        terms = [self._analyzer.term(word) for word in self._words]
        table = StringTable.of([*terms, *self._parts])
        ranks = {table[index]: index for index in range(len(table))}
        pairs = [(encode(fold(word)), ranks[encode(term)]) for word, term in zip(self._words, terms, strict=True)]
        of_parts = [ranks[encode(part)] for part in reversed(self._parts)]
        numbers = np.frombuffer(self._found, dtype=np.int64)
        words = Words.of(set(pairs))
        forms = self._forms(words, pairs)[numbers]
        return self._sorted(table, np.array([rank for _, rank in pairs] + of_parts, dtype=np.int64)[numbers], forms, words)

    def _forms(self, words: Words, pairs: Sequence[tuple[bytes, int]]) -> NDArray[np.int64]:
        """The form that each word and part is of its term, by their numbers."""
        forms = {(words.texts[at], int(words.terms[at])): int(words.forms[at]) for at in range(len(words.terms))}
        return np.array([forms[pair] for pair in pairs] + [0] * len(self._parts), dtype=np.int64)

    def _sorted(self, table: StringTable, found: NDArray[np.int64], forms: NDArray[np.int64], words: Words) -> KeywordIndex:
        """Postings, places and forms by one sort of numbers that hold term, row, place and form."""
        lengths, places = np.frombuffer(self._lengths, dtype=np.int64), np.frombuffer(self._places, dtype=np.int64)
        rows, width, most = max(len(lengths), 1), int(places.max(initial=0)) + 1, int(forms.max(initial=0)) + 1
        if len(table) * rows * width * most >= _KEYS:
            raise InvalidInput("too many and too long texts for one keyword index", field="items")
        keys = (found * rows + np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)) * width + places
        keys *= most
        keys += forms
        keys.sort()
        keys, forms = np.divmod(keys, most)
        pairs, places = np.divmod(keys, width)
        first = np.flatnonzero(np.diff(pairs, prepend=-1))
        counts = np.diff(first, append=len(pairs))
        of_terms, numbers = np.divmod(pairs[first], rows)
        bounds = np.searchsorted(of_terms, np.arange(len(table) + 1)).astype(np.int64)
        occurrences = np.diff(np.append(first, len(pairs))[bounds])
        several = np.bincount(words.terms, minlength=len(table))[of_terms] > 1
        kept = narrow(forms[np.repeat(several, counts)], np.uint8)
        order = TextOrder.of(occurrences, narrow(places, np.uint16), kept, words)
        return KeywordIndex(table, bounds, numbers.astype(np.uint32), narrow(counts, np.uint8), lengths.astype(np.uint32), order)
