"""A model's words made harmless: only sources that were shown are cited, and nothing in them leads or loads anything elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MAX_HELD: Final = 2_000
"""Characters that are held back at most while something in them may still turn out to be a link."""

_CITATION: Final = re.compile(r"[ \t]?\[\s*(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*\]")
_IMAGE: Final = re.compile(r"!\[([^\]]{0,500})\]\s*(?:\([^)]{0,2000}\)?|\[[^\]]{0,200}\])")
_LINK: Final = re.compile(r"\[([^\[\]]{0,500})\]\s*\([^)]{0,2000}\)?")
_REFERENCE: Final = re.compile(r"^[ \t]{0,3}\[[^\]\n]{1,200}\]:[^\n]*$", re.MULTILINE)
_TAG: Final = re.compile(
    r"</?(?:a|img|image|script|iframe|frame|link|video|audio|source|track|object|embed|svg|style|form|input|button|base|meta|picture|body|html)"
    r"(?![\w-])[^>]{0,2000}>?",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(
    r"<?\b(?:[a-z][a-z0-9+.-]{1,20}://|www\.|mailto:|javascript:|data:[a-z]+/)[^\s<>\"')\]]{1,2000}>?", re.IGNORECASE
)
_GONE: Final = "[link removed]"
_ROUNDS: Final = 5


def cited_numbers(text: str) -> list[int]:
    """The numbers in brackets, in the order of their first use."""
    numbers = [int(number) for match in _CITATION.finditer(text) for number in re.findall(r"\d+", match[1])]
    return list(dict.fromkeys(numbers))


def harmless(text: str, shown: int) -> str:
    """The text without images, links, addresses and tags that load or lead, and without numbers but those of the sources that
    were shown (1..`shown`).
    """
    for _ in range(_ROUNDS):  # what is taken out may leave something behind that is now whole
        cleaned = _cleaned(text, shown)
        if cleaned == text:
            return text
        text = cleaned
    return _blunted(_cleaned(text, shown))


def _blunted(text: str) -> str:
    """The text without a mark that could begin a tag or a link's address."""
    return text.replace("<", "‹").replace("](", "] (")  # noqa: RUF001 - looks like the mark, and is none


def _cleaned(text: str, shown: int) -> str:
    text = _REFERENCE.sub("", text)
    text = _TAG.sub("", text)
    text = _IMAGE.sub(r"\1", text)
    text = _LINK.sub(lambda match: match[0] if _is_citation(match[1], shown) and "(" not in match[0] else match[1], text)
    text = _ADDRESS.sub(_GONE, text)
    return _CITATION.sub(lambda match: _verified(match, shown), text)


def _is_citation(text: str, shown: int) -> bool:
    return text.isdigit() and 1 <= int(text) <= shown


def _verified(match: re.Match[str], shown: int) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", match[1])]
    kept = [number for number in dict.fromkeys(numbers) if 1 <= number <= shown]
    if not kept:
        return ""
    lead = match[0][: len(match[0]) - len(match[0].lstrip(" \t"))]
    return lead + "".join(f"[{number}]" for number in kept)


class Purifier:
    """`harmless` for a text that comes in pieces: what is given out is what `harmless` makes of the whole, in order."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._held = ""

    def feed(self, piece: str) -> str:
        """As much as is certain now."""
        self._held += piece
        if len(self._held) > MAX_HELD:  # too long to be a link that anybody means: out with it, but joined to nothing that follows
            ready, self._held = self._held, ""
            return _blunted(harmless(ready, self._shown)) + " "
        cut = _certain(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return harmless(ready, self._shown) if ready else ""

    def finish(self) -> str:
        """The rest."""
        rest, self._held = self._held, ""
        return harmless(rest, self._shown)

    def through(self, pieces: Iterator[str | None]) -> Iterator[str | None]:
        """The pieces, made harmless; None passes."""
        for piece in pieces:
            if piece is None:
                yield None
            elif ready := self.feed(piece):
                yield ready
        if rest := self.finish():
            yield rest


def _certain(text: str) -> int:
    """Up to where nothing that follows can change the meaning: between words, outside of brackets and tags, at a line's end best."""
    cut = max(text.rfind(" "), text.rfind("\n"))
    if cut <= 0:
        return 0
    opened = _opened(text, cut)
    return cut if opened is None else opened


def _opened(text: str, cut: int) -> int | None:
    """Where something begins that is not closed before `cut`; None when nothing is open."""
    for mark, close in (("<", ">"), ("[", "]")):
        start = text.rfind(mark, 0, cut)
        if start >= 0 and text.find(close, start, cut) < 0:
            return start - 1 if start and text[start - 1] == "!" else start
    start = text.rfind("](", 0, cut)
    if start >= 0 and text.find(")", start, cut) < 0:
        opening = text.rfind("[", 0, start)
        return max(0, opening - 1 if opening > 0 and text[opening - 1] == "!" else opening)
    return None
