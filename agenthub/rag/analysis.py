"""Text to terms for the keyword index: the same words on the writing and the asking side.

A term is a word in compatibility form (NFKC), case-folded, stemmed by Snowball and without accents. Scripts that are written
without spaces give overlapping pairs of characters. Stop words stay in the index, so that "to be or not to be" can be found,
and are left out of questions that have other words.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々〆]"
LETTER: Final = rf"[[\p{{L}}\p{{N}}]--{UNSPACED}]"
INSIDE: Final = rf"[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]"
_WORD: Final = regex.compile(rf"(?V1){LETTER}{INSIDE}*|(?P<run>{UNSPACED}+)")
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


@dataclass(frozen=True, slots=True)
class Reading:
    """A text's words and characters with their places, which count words of spaced scripts and characters of unspaced ones.

    `words` are not stemmed yet. `parts` are the single characters and the pairs of unspaced scripts: terms as they stand; a pair
    has its first character's place. Places ascend in each list.
    """

    words: list[str]
    word_places: Sequence[int]
    parts: list[str]
    part_places: list[int]


class Analyzer:
    """Splits text into terms. Safe to share between threads."""

    def __init__(self, language: str = "english") -> None:
        """Raises: InvalidInput (field `language`) when the language is not one of `languages()`."""
        if language not in languages():
            raise InvalidInput(f"there is no analyzer for the language {language!r}", field="language")
        self.language = language
        self._algorithms = _algorithms(language)
        self._stop_words = _stop_words(language)
        self._stemmers = _Stemmers(self.term)

    @property
    def signature(self) -> str:
        """Names everything the terms depend on; an index made under another signature has to be made again."""
        return f"{self.language}/{ANALYSIS_VERSION}/snowball-{Stemmer.version()}/unicode-{unicodedata.unidata_version}"

    def read(self, text: str) -> Reading:
        """What is to be indexed of a text, before stemming: `term` makes the term of each of its words."""
        words, places, runs = _split(text)
        parts: list[str] = []
        part_places: list[int] = []
        for first, run in runs:
            parts += run if len(run) == 1 else [*run, *_pairs(run)]
            part_places += [*range(first, first + len(run)), *range(first, first + len(run) - 1)]
        return Reading(words, places, parts, part_places)

    def term(self, word: str) -> str:
        """The term of one word that `read` gave."""
        if self.language == SIMPLE:
            return fold(word)
        algorithm = self._algorithms.get(_script(word))
        return fold(word if algorithm is None else self._stemmers.get(algorithm).stemWord(word))

    def terms(self, text: str) -> list[str]:
        """The terms to index, repeats kept: words in their order, then the single characters and pairs of unspaced scripts."""
        reading = self.read(text)
        return self._finish(reading.words) + reading.parts

    def query_terms(self, text: str, *, alone: bool = True) -> list[str]:
        """The terms to look up for a question: as `terms`, without stop words unless nothing else is asked.

        Not `alone`: more is asked than this text, so it may have no terms.
        """
        words, _, runs = _split(text)
        pairs = [term for _, run in runs for term in (run if len(run) == 1 else _pairs(run))]
        telling = [word for word in words if word not in self._stop_words]
        return self._finish(telling if telling or pairs or not alone else words) + pairs

    def phrase(self, text: str) -> tuple[tuple[str, int], ...]:
        """The terms of words in their order, stop words too, each with its place in the phrase; unspaced scripts give pairs."""
        words, places, runs = _split(text)
        found = list(zip(self._finish(words), places, strict=True))
        for first, run in runs:
            found += [(term, first + at) for at, term in enumerate(run if len(run) == 1 else _pairs(run))]
        return tuple(found)

    def _finish(self, words: list[str]) -> list[str]:
        known = self._stemmers.known
        if len(known) > _MAX_KNOWN_TERMS:
            known.clear()
        return [known[word] for word in words]


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
    return frozenset(normalize(path.read_text(encoding="utf-8")).split())


def normalize(text: str) -> str:
    """NFKC before and after folding case, because each undoes a little of the other."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_INVISIBLE)


def _split(text: str) -> tuple[list[str], Sequence[int], list[tuple[int, list[str]]]]:
    """Words of spaced scripts, the place of each, and the characters of every run of an unspaced script behind its first place."""
    if text.isascii():
        words = [word[:MAX_TERM_LENGTH] for word in _PLAIN_WORD.findall(text.lower())]
        return words, range(len(words)), []
    words, places, place = [], list[int](), 0
    runs: list[tuple[int, list[str]]] = []
    for match in _WORD.finditer(normalize(text)):
        if match["run"] is None:
            words.append(match[0][:MAX_TERM_LENGTH])
            places.append(place)
            place += 1
        else:
            runs.append((place, _GRAPHEME.findall(match[0])))
            place += len(runs[-1][1])
    return words, places, runs


def _pairs(characters: list[str]) -> list[str]:
    return [a + b for a, b in pairwise(characters)]


def _script(word: str) -> str:
    if word.isascii():
        return "latin"
    point = ord(word[0])
    return next((script for first, last, script in _SCRIPTS if first <= point <= last), "latin")


def fold(word: str) -> str:
    """The word without accents and other marks that writers leave out."""
    if word.isascii():
        return word
    bare = unicodedata.normalize("NFD", word).translate(_MARKS)
    return unicodedata.normalize("NFC", bare).translate(_PLAIN)
