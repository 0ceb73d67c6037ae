"""What people write in a search box beside words: "phrases", beginnings* and -"what to leave out".

Marks count only where they can't be anything else: a quotation mark behind a letter or digit is an inch or an apostrophe, and a
hyphen before a word is a hyphen. Whatever isn't a mark is read as words. No text is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import regex

from agenthub.rag.analysis import INSIDE, LETTER, Analyzer, fold
from agenthub.rag.matching import Phrase

MAX_PHRASES: Final = 16
"""So many phrases of a text are phrases, excluded ones included; one may cost tens of milliseconds when all its words are common."""
MAX_PREFIXES: Final = 8
_QUOTES: Final = '"“”„‟«»＂'  # noqa: RUF001 - the quotation marks of several languages
_MARK: Final = regex.compile(
    rf"(?V1)(?:(?<!\S)(?P<without>-)|(?<!{LETTER}))[{_QUOTES}](?P<phrase>[^{_QUOTES}]*)[{_QUOTES}]"
    rf"|(?<![*[{INSIDE}]])(?P<prefix>{LETTER}{INSIDE}+)\*(?![*[{LETTER}]])"
)


@dataclass(frozen=True, slots=True)
class QueryText:
    """A query text taken apart. `plain` is what is neither in a phrase nor a prefix nor left out; `meant` is what to embed."""

    plain: str
    meant: str
    phrases: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> QueryText:
        """What the text asks for."""
        return _Reader().read(text)

    @classmethod
    def verbatim(cls, text: str) -> QueryText:
        """The text without any mark in it."""
        return cls(text, text)


class _Reader:
    """Takes one text apart."""

    def __init__(self) -> None:
        self._phrases: list[str] = []
        self._prefixes: list[str] = []
        self._excluded: list[str] = []
        self._plain: list[str] = []
        self._meant: list[str] = []

    def read(self, text: str) -> QueryText:
        end = 0
        for mark in _MARK.finditer(text):
            if (meant := self._taken(mark)) is not None:
                self._plain += [text[end : mark.start()], " "]
                self._meant += [text[end : mark.start()], meant]
                end = mark.end()
        plain, meant = "".join(self._plain) + text[end:], "".join(self._meant) + text[end:]
        return QueryText(plain, meant if meant.strip() else text, tuple(self._phrases), tuple(self._prefixes), tuple(self._excluded))

    def _taken(self, mark: regex.Match[str]) -> str | None:
        """What the mark stands for in a text to embed; None when it is one too many and so read as words."""
        if mark["prefix"]:
            return self._noted(self._prefixes, mark["prefix"], mark["prefix"]) if len(self._prefixes) < MAX_PREFIXES else None
        if len(self._phrases) + len(self._excluded) >= MAX_PHRASES:
            return None
        if mark["without"]:
            return self._noted(self._excluded, mark["phrase"], " ")
        return self._noted(self._phrases, mark["phrase"], mark[0])

    @staticmethod
    def _noted(texts: list[str], text: str, meant: str) -> str:
        texts.append(text)
        return meant


@dataclass(frozen=True, slots=True)
class Asked:
    """A query text in terms of a language: what to score, and what hits must and must not have."""

    terms: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    phrases: tuple[Phrase, ...] = ()
    excluded: tuple[Phrase, ...] = ()

    @classmethod
    def of(cls, query: QueryText, analyzer: Analyzer) -> Asked:
        """What the text asks for. The words of a phrase count as any others; stop words in one count only if it has no others."""
        phrases = [(text, phrase) for text in query.phrases if (phrase := analyzer.phrase(text))]
        beginnings = [words for text in query.prefixes if (words := analyzer.read(text).words)]
        # What NFKC takes apart, such as a fraction, is several words.
        plain = " ".join([query.plain, *(word for words in beginnings for word in words[:-1])])
        terms = analyzer.query_terms(plain, alone=not phrases and not beginnings)
        for text, _ in phrases:
            terms += analyzer.query_terms(text)
        return cls(
            tuple(terms),
            tuple(fold(words[-1]) for words in beginnings),
            tuple(phrase for _, phrase in phrases),
            tuple(phrase for text in query.excluded if (phrase := analyzer.phrase(text))),
        )

    @property
    def restricts(self) -> bool:
        """Whether it leaves out rows, whatever their scores."""
        return bool(self.phrases or self.excluded)
