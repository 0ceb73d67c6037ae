"""Answers made of the best sentences that were found, word for word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.rag.answering.evidence import Candidate, Evidence, Texts

MOST_SENTENCES: Final = 3
_GOOD_ENOUGH: Final = 0.75
"""A further sentence has at least this part of the best one's worth."""
_SAME: Final = 0.8
"""A sentence with this part of its words in another one says nothing new."""
_WORD: Final = re.compile(r"\w+")
_REFERENCE: Final = re.compile(r"\s?\[\d{1,4}\]")
"""A reference of the source's own, which would pass for one of ours."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage that an answer repeats or rests on: `text[start:end]` of the source with that number (from 1)."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Extract:
    """An answer: sentences of the sources, each with its number in brackets."""

    text: str
    quotes: tuple[Quote, ...]


def extract(evidence: Evidence, sources: Sequence[Texts]) -> Extract:
    """The best sentences, in the order of the sources; empty where there is none."""
    chosen = _chosen(evidence.candidates, sources)
    parts = [f"{_plain(one.sentence.text)} [{one.source + 1}]" for one in chosen]
    return Extract(" ".join(parts), tuple(Quote(one.source + 1, one.sentence.start, one.sentence.end) for one in chosen))


def _plain(sentence: str) -> str:
    return " ".join(_REFERENCE.sub("", sentence).split())


def _chosen(candidates: Sequence[Candidate], sources: Sequence[Texts]) -> list[Candidate]:
    if not candidates:
        return []
    best = candidates[0]
    if sources[best.source].whole:
        return [best]
    found: list[Candidate] = []
    said: list[frozenset[str]] = []
    for one in candidates:
        words = frozenset(_WORD.findall(one.sentence.text.casefold()))
        new = all(len(words & before) < _SAME * len(words) for before in said)
        if one.worth >= best.worth * _GOOD_ENOUGH and new and not sources[one.source].whole:
            said.append(words)
            found.append(one)
        if len(found) == MOST_SENTENCES:
            break
    return sorted(found, key=lambda one: (one.source, one.sentence.start))
