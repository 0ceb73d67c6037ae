"""Text to terms for the keyword index: the same words on the writing and the asking side.

A term is a word in compatibility form (NFKC), case-folded, stemmed by Snowball and without accents. Scripts that are written
without spaces give overlapping pairs of characters. Stop words stay in the index, so that "to be or not to be" can be found,
and are left out of questions that have other words.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import regex
import Stemmer

from agenthub.core.errors import InvalidInput

ANALYSIS_VERSION: Final = 1
SIMPLE: Final = "simple"
MAX_TERM_LENGTH: Final = 64  # code points; longer runs are encoded data, not words
_MAX_KNOWN_TERMS: Final = 50_000  # about 8 MB a thread and language

_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々〆]"
_LETTER: Final = rf"[[\p{{L}}\p{{N}}]--{_UNSPACED}]"
_INSIDE: Final = rf"[[\p{{L}}\p{{N}}\p{{M}}]--{_UNSPACED}]"
_WORD: Final = regex.compile(rf"(?V1){_LETTER}{_INSIDE}*|(?P<run>{_UNSPACED}+)")
_PLAIN_WORD: Final = re.compile("[a-z0-9]+")  # what _WORD finds in lower-case ASCII, in a tenth of the time
_GRAPHEME: Final = regex.compile(r"\X")

# Soft hyphen, joiners and byte order mark stand inside words without being part of them.
_INVISIBLE: Final = dict.fromkeys([0x00AD, 0x200C, 0x200D, 0x2060, 0xFEFF])
# Marks that writers leave out: combining accents, Hebrew points, Arabic vowel signs and tatweel. Indic vowel signs are letters.
_MARKS: Final = dict.fromkeys([*range(0x0300, 0x0370), *range(0x0591, 0x05C8), 0x0640, *range(0x064B, 0x0660), 0x0670])
_PLAIN: Final = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})  # noqa: RUF001 - the letters themselves are meant

_SCRIPTS: Final = (  # first and last code point, script
    (0x0370, 0x03FF, "greek"),
    (0x1F00, 0x1FFF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0530, 0x058F, "armenian"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x06FF, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0B80, 0x0BFF, "tamil"),
)
# Words in another script than the language's own get the stemmer most texts in that script need.
_STEMMERS: Final = {
    "latin": "english",
    "greek": "greek",
    "cyrillic": "russian",
    "armenian": "armenian",
    "arabic": "arabic",
    "devanagari": "hindi",
    "tamil": "tamil",
}
_OWN_SCRIPT: Final = {
    "greek": ("greek",),
    "russian": ("cyrillic",),
    "serbian": ("cyrillic", "latin"),
    "armenian": ("armenian",),
    "arabic": ("arabic",),
    "persian": ("arabic",),
    "hindi": ("devanagari",),
    "nepali": ("devanagari",),
    "tamil": ("tamil",),
    "yiddish": ("hebrew",),
}
_SUPERSEDED: Final = frozenset({"porter", "dutch_porter"})


def languages() -> tuple[str, ...]:
    """The names `Analyzer` takes, sorted: every Snowball language and `simple`, which neither stems nor drops words."""
    return tuple(sorted({*Stemmer.algorithms(), SIMPLE} - _SUPERSEDED))


class Analyzer:
    """Splits text into terms. Safe to share between threads."""

    def __init__(self, language: str = "english") -> None:
        """Raises: InvalidInput (field `language`) when the language is not one of `languages()`."""
        if language not in languages():
            raise InvalidInput(f"there is no analyzer for the language {language!r}", field="language")
        self.language = language
        self._algorithms = _algorithms(language)
        self._stop_words = _stop_words(language)
        self._stemmers = _Stemmers(self._term)

    @property
    def signature(self) -> str:
        """Names everything the terms depend on; an index made under another signature has to be made again."""
        return f"{self.language}/{ANALYSIS_VERSION}/snowball-{Stemmer.version()}/unicode-{unicodedata.unidata_version}"

    def terms(self, text: str) -> list[str]:
        """The terms to index, repeats kept: words in their order, then the single characters and pairs of unspaced scripts."""
        words, runs = _split(text)
        terms = self._finish(words)
        for run in runs:
            terms += run if len(run) == 1 else [*run, *_pairs(run)]
        return terms

    def query_terms(self, text: str) -> list[str]:
        """The terms to look up for a question: as `terms`, without stop words unless nothing else is asked."""
        words, runs = _split(text)
        pairs = [term for run in runs for term in (run if len(run) == 1 else _pairs(run))]
        telling = [word for word in words if word not in self._stop_words]
        return self._finish(telling if telling or pairs else words) + pairs

    def _finish(self, words: list[str]) -> list[str]:
        known = self._stemmers.known
        if len(known) > _MAX_KNOWN_TERMS:
            known.clear()
        return [known[word] for word in words]

    def _term(self, word: str) -> str:
        if self.language == SIMPLE:
            return _fold(word)
        algorithm = self._algorithms.get(_script(word))
        return _fold(word if algorithm is None else self._stemmers.get(algorithm).stemWord(word))


class _Stemmers(threading.local):
    """Snowball stemmers of one thread: a stemmer keeps its working buffer inside and can't be shared. So are the terms known."""

    def __init__(self, term: Callable[[str], str]) -> None:
        self._made: dict[str, Stemmer.Stemmer] = {}
        self.known = _Known(term)

    def get(self, algorithm: str) -> Stemmer.Stemmer:
        if algorithm not in self._made:
            self._made[algorithm] = Stemmer.Stemmer(algorithm)
        return self._made[algorithm]


class _Known(dict[str, str]):
    """The terms of the words that this thread has met lately: most words of a text are common ones."""

    def __init__(self, term: Callable[[str], str]) -> None:
        super().__init__()
        self._term = term

    def __missing__(self, word: str) -> str:
        term = self[word] = self._term(word)
        return term


def _algorithms(language: str) -> dict[str, str]:
    own = dict.fromkeys(_OWN_SCRIPT.get(language, ("latin",)), language)
    return {**_STEMMERS, **own}


@cache
def _stop_words(language: str) -> frozenset[str]:
    path = Path(__file__).with_name("stopwords") / f"{language}.txt"
    if not path.is_file():
        return frozenset()
    return frozenset(_normalize(path.read_text(encoding="utf-8")).split())


def _normalize(text: str) -> str:
    """NFKC before and after folding case, because each undoes a little of the other."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_INVISIBLE)


def _split(text: str) -> tuple[list[str], list[list[str]]]:
    """Words of spaced scripts, and the characters of every run of an unspaced script."""
    if text.isascii():
        return [word[:MAX_TERM_LENGTH] for word in _PLAIN_WORD.findall(text.lower())], []
    words: list[str] = []
    runs: list[list[str]] = []
    for match in _WORD.finditer(_normalize(text)):
        if match["run"] is None:
            words.append(match[0][:MAX_TERM_LENGTH])
        else:
            runs.append(_GRAPHEME.findall(match[0]))
    return words, runs


def _pairs(characters: list[str]) -> list[str]:
    return [a + b for a, b in pairwise(characters)]


def _script(word: str) -> str:
    if word.isascii():
        return "latin"
    point = ord(word[0])
    return next((script for first, last, script in _SCRIPTS if first <= point <= last), "latin")


def _fold(word: str) -> str:
    if word.isascii():
        return word
    bare = unicodedata.normalize("NFD", word).translate(_MARKS)
    return unicodedata.normalize("NFC", bare).translate(_PLAIN)
