"""Sentences of a text, with their places in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import regex

MAX_SENTENCE: Final = 600
"""Longer runs without an end (tables, lists, code) are cut between words."""

_ENDS: Final = regex.compile(r"[.!?…]+[\"'”’»)\]]*(?:\[\d{1,4}\])*(?=\s)|[。！？]+[」』）]*|\n\s*\n|\n(?=\s*(?:[-*•#|>]|\d+[.)]\s))")  # noqa: RUF001 - full-width marks end sentences
_ABBREVIATION: Final = regex.compile(
    r"(?:^|[\s(])(?:\p{Lu}|e\.g|i\.e|cf|vs|etc|approx|ca|no|nr|fig|figs|eq|sec|ch|vol|pp|p|ed|eds|al|dr|mr|mrs|ms|prof|st|jr|sr|inc|ltd|co|u\.s|z\.b|d\.h|bzw)\.$",
    regex.IGNORECASE,
)
_FOLLOWED_BY_SMALL: Final = regex.compile(r"\s+[\p{Ll},;]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and its place: `text[start:end]` of what it was taken from."""

    text: str
    start: int
    end: int


def sentences_of(text: str) -> list[Sentence]:
    """The sentences in order. Everything but white space is in one of them."""
    found: list[Sentence] = []
    start = 0
    for end in _boundaries(text):
        found += _pieces(text, start, end)
        start = end
    return found


def _boundaries(text: str) -> Iterator[int]:
    start = 0
    for match in _ENDS.finditer(text):
        ends = match.end()
        if match[0][0] == "." and _goes_on(text, start, ends):
            continue
        yield ends
        start = ends
    yield len(text)


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether the full stop belongs to an abbreviation, or what follows can't begin a sentence."""
    return _ABBREVIATION.search(text, max(start, end - 12), end) is not None or _FOLLOWED_BY_SMALL.match(text, end) is not None


def _pieces(text: str, start: int, end: int) -> Iterator[Sentence]:
    while start < end:
        while start < end and text[start].isspace():
            start += 1
        stop = min(end, start + MAX_SENTENCE)
        if stop < end:
            space = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop))
            stop = space if space > start else stop
        bare = text[start:stop].rstrip()
        if bare:
            yield Sentence(bare, start, start + len(bare))
        start = stop
