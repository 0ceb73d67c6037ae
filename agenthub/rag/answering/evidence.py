"""How well passages answer a question: each sentence's worth, and how sure one may be that the answer is there at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.analysis import Analyzer
from agenthub.rag.answering.calibrated import COEFFICIENTS, Coefficients
from agenthub.rag.answering.sentences import Sentence, sentences_of

MOST_SOURCES: Final = 8
"""Sentences are looked for in so many of the best passages."""
MOST_EMBEDDED: Final = 16
"""So many sentences, those with most of the question's words, are compared by meaning; each costs some milliseconds at first."""
MAX_WHOLE: Final = 1_500
"""A FAQ's answer up to this length is one sentence, so that it is never torn apart."""


class Texts(Protocol):
    """A passage that was found. `cosine` is None where vectors were not asked, `heading` what else it was found by."""

    @property
    def text(self) -> str: ...

    @property
    def heading(self) -> str: ...

    @property
    def cosine(self) -> float | None: ...

    @property
    def whole(self) -> bool:
        """Whether it is an answer by itself."""
        ...


class Embed(Protocol):
    """Vectors of texts, each of length one."""

    def __call__(self, texts: Sequence[str], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of the source with that place in the list. `coverage` is the part of the question's words it has, by weight."""

    source: int
    sentence: Sentence
    coverage: float
    cosine: float | None

    @property
    def worth(self) -> float:
        """What sentences are chosen by."""
        return self.coverage if self.cosine is None else (self.coverage + self.cosine) / 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a question's answer: sentences, best first, and the signs that confidence is made of.

    `passage_cosine` is that of the nearest passage, `sentence_cosine` of the nearest sentence (None without vectors);
    `coverage` is the part of the question's words, by weight, in the passage that has most of them.
    """

    candidates: tuple[Candidate, ...]
    passage_cosine: float | None
    sentence_cosine: float | None
    coverage: float

    @property
    def confidence(self) -> float:
        """How likely the answer is there, 0..1: a logistic function of the signs, fitted on held-out questions (calibrated.py)."""
        chosen: Coefficients = COEFFICIENTS["words" if self.passage_cosine is None else "both"]
        signs = (self.passage_cosine or 0.0, self.sentence_cosine or 0.0, self.coverage)
        total = chosen.constant + sum(weight * sign for weight, sign in zip(chosen.weights, signs, strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def gather(question: str, sources: Sequence[Texts], analyzer: Analyzer, embed: Embed | None) -> Evidence:
    """The evidence for an answer. `embed` is that of the knowledge base's model; None compares words only."""
    looked = sources[:MOST_SOURCES]
    words = _Words(question, looked, analyzer)
    pool = [
        Candidate(place, sentence, words.coverage(sentence.text if not one.whole else f"{one.heading}\n{sentence.text}"), None)
        for place, one in enumerate(looked)
        for sentence in _sentences(one)
    ]
    pool.sort(key=lambda candidate: (-candidate.coverage, candidate.source, candidate.sentence.start))
    if embed is not None and pool:
        pool = _compared(question, pool[:MOST_EMBEDDED], looked, embed)
    cosines = [one.cosine for one in looked if one.cosine is not None]
    nearest = [candidate.cosine for candidate in pool if candidate.cosine is not None]
    return Evidence(
        tuple(pool),
        max(cosines) if cosines else (max(nearest) if nearest else None),
        max(nearest, default=None),
        max((words.coverage(f"{one.heading}\n{one.text}") for one in looked), default=0.0),
    )


def coverages(question: str, sources: Sequence[Texts], analyzer: Analyzer) -> list[float]:
    """Of each passage the part of the question's words, by weight, that it has; 0..1."""
    words = _Words(question, sources, analyzer)
    return [words.coverage(f"{one.heading}\n{one.text}") for one in sources]


def _sentences(source: Texts) -> list[Sentence]:
    if source.whole and len(source.text) <= MAX_WHOLE:
        return [Sentence(source.text, 0, len(source.text))]
    return sentences_of(source.text)


def _compared(question: str, pool: Sequence[Candidate], sources: Sequence[Texts], embed: Embed) -> list[Candidate]:
    texts = [f"{sources[c.source].heading}\n{c.sentence.text}" if sources[c.source].whole else c.sentence.text for c in pool]
    vectors = embed([question, *texts])
    cosines = vectors[1:] @ vectors[0]
    found = [Candidate(c.source, c.sentence, c.coverage, float(cosine)) for c, cosine in zip(pool, cosines, strict=True)]
    return sorted(found, key=lambda candidate: (-candidate.worth, candidate.source, candidate.sentence.start))


class _Words:
    """The question's terms, weighted: those that few of the passages have say most."""

    def __init__(self, question: str, sources: Sequence[Texts], analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        asked = set(analyzer.query_terms(question))
        having = [asked & set(analyzer.terms(f"{one.heading}\n{one.text}")) for one in sources]
        self._weights: Mapping[str, float] = {
            term: math.log(1 + (len(sources) + 1) / (sum(term in terms for terms in having) + 0.5)) for term in asked
        }
        self._total = sum(self._weights.values())

    def coverage(self, text: str) -> float:
        """The part of the weights that the text has, 0..1."""
        if not self._total:
            return 0.0
        return sum(self._weights[term] for term in self._weights.keys() & set(self._analyzer.terms(text))) / self._total
