"""Where in a text a question's words stand, and the sentence that answers it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import regex

from agenthub.rag.analysis import Analyzer
from agenthub.rag.answering.sentences import Sentence, sentences_of

MAX_SPANS: Final = 50
_WORD: Final = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*")


@dataclass(frozen=True, slots=True)
class Highlights:
    """Places in a text, as (start, end): of the question's words, at most 50, and of the best passage."""

    words: tuple[tuple[int, int], ...]
    passage: tuple[int, int]


class Highlighter:
    """Marks texts for one question."""

    def __init__(self, question: str, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._terms = frozenset(analyzer.query_terms(question))

    def words(self, text: str) -> list[tuple[int, int]]:
        """The places of words whose stem the question has."""
        return [(m.start(), m.end()) for m in _WORD.finditer(text) if not self._terms.isdisjoint(self._analyzer.terms(m[0]))]

    def mark(self, text: str, closest: Sequence[float] | None = None) -> Highlights:
        """The places. The best passage is the sentence with most different words of the question, or the one of the highest
        number in `closest` (one a sentence) where those are given.
        """
        words = self.words(text)
        sentences = sentences_of(text) or [Sentence(text, 0, len(text))]
        if closest is None:
            best = max(sentences, key=lambda sentence: self._distinct(text, words, sentence))
        else:
            best = max(zip(sentences, closest, strict=True), key=lambda pair: pair[1])[0]
        return Highlights(tuple(words[:MAX_SPANS]), (best.start, best.end))

    def _distinct(self, text: str, words: Sequence[tuple[int, int]], sentence: Sentence) -> tuple[int, int]:
        inside = [text[start:end] for start, end in words if sentence.start <= start < sentence.end]
        return len({term for word in inside for term in self._analyzer.terms(word) if term in self._terms}), -sentence.start
