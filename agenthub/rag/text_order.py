"""What a keyword index knows of its texts' order and spelling: where each term stands, and as which word it stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.strings import StringTable
from agenthub.rag.tensors import Expected

Numbers = NDArray[np.unsignedinteger[Any]]
TEXT_ORDER: Final[Expected] = {
    "places": (np.uint16, np.uint32),
    "forms": (np.uint8, np.uint16, np.uint32),
    "words.data": (np.uint8,),
    "words.offsets": (np.uint32,),
    "words.terms": (np.uint32,),
    "words.forms": (np.uint8, np.uint16, np.uint32),
}


@dataclass(frozen=True, slots=True)
class Words:
    """Every word without case and accents, sorted. Word `w` gave the term `terms[w]`, being the form `forms[w]` of it.

    A word that gave two terms (their accents differed) is there twice.
    """

    texts: StringTable
    terms: NDArray[np.uint32]
    forms: Numbers

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes, int]]) -> Words:
        """The table of these words with their terms. The forms of a term are numbered in the words' order."""
        ordered = sorted(pairs)
        seen: dict[int, int] = {}
        forms = []
        for _, term in ordered:
            forms.append(seen.get(term, 0))
            seen[term] = forms[-1] + 1
        terms = np.array([term for _, term in ordered], dtype=np.uint32)
        return cls(StringTable.ordered([text for text, _ in ordered]), terms, narrow(np.array(forms, dtype=np.int64), np.uint8))

    def sound(self, term_count: int) -> bool:
        """Whether the arrays fit each other, whatever bytes they came from."""
        return self.texts.sound() and len(self.texts) == len(self.terms) == len(self.forms) and bool(np.all(self.terms < term_count))


@dataclass(frozen=True, slots=True)
class TextOrder:
    """The places of term `t` are `places[bounds[t]:bounds[t + 1]]`: those in its first row ascending, then those in the next.

    `forms[form_bounds[t]:form_bounds[t + 1]]` says, for the same places, which form of the term stands there; nothing for terms
    that have one form only. `form_counts` is how many each has.
    """

    bounds: NDArray[np.int64]
    places: Numbers
    form_counts: NDArray[np.int64]
    form_bounds: NDArray[np.int64]
    forms: Numbers
    words: Words

    @classmethod
    def of(cls, occurrences: NDArray[np.int64], places: Numbers, forms: Numbers, words: Words) -> TextOrder:
        """From how often each term occurs, and the places and forms as in the file."""
        form_counts = np.bincount(words.terms, minlength=len(occurrences)).astype(np.int64)
        bounds, form_bounds = _bounds(occurrences), _bounds(np.where(form_counts > 1, occurrences, 0))
        return cls(bounds, places, form_counts, form_bounds, forms, words)

    @classmethod
    def decode(cls, arrays: Mapping[str, NDArray[Any]], occurrences: NDArray[np.int64]) -> TextOrder:
        """From the arrays of a keyword file.

        Raises: CorruptFile when they don't fit each other.
        """
        words = Words(StringTable(arrays["words.data"], arrays["words.offsets"]), arrays["words.terms"], arrays["words.forms"])
        if not words.sound(len(occurrences)):
            raise CorruptFile("a keyword file's words do not fit its terms")
        order = cls.of(occurrences, arrays["places"], arrays["forms"], words)
        if (int(order.bounds[-1]), int(order.form_bounds[-1])) != (len(order.places), len(order.forms)):
            raise CorruptFile("a keyword file's places do not fit its terms")
        return order

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As the file has them."""
        return {
            "places": self.places,
            "forms": self.forms,
            "words.data": self.words.texts.data,
            "words.offsets": self.words.texts.offsets.astype(np.uint32),
            "words.terms": self.words.terms,
            "words.forms": self.words.forms,
        }

    def beginning(self, prefix: str) -> Sequence[tuple[int, NDArray[np.bool_] | None]]:
        """The terms of the words that begin so; with each, at which of its places such a word stands (None: at all)."""
        span = slice(*self.words.texts.beginning(prefix))
        found: dict[int, list[int]] = {}
        for term, form in zip(self.words.terms[span].tolist(), self.words.forms[span].tolist(), strict=True):
            found.setdefault(term, []).append(form)
        return [(term, self._standing(term, forms)) for term, forms in found.items()]

    def _standing(self, term: int, forms: list[int]) -> NDArray[np.bool_] | None:
        if len(forms) >= self.form_counts[term]:
            return None
        return np.isin(self.forms[self.form_bounds[term] : self.form_bounds[term + 1]], forms)


def narrow(values: NDArray[np.int64], least: type[np.unsignedinteger[Any]]) -> Numbers:
    """The values in the narrowest type from this one on that holds them."""
    most = int(values.max(initial=0))
    return values.astype(next(kind for kind in (least, np.uint16, np.uint32) if most <= np.iinfo(kind).max))


def _bounds(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    bounds = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds
