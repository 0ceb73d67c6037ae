"""Text to clean text: what every block and heading passes through. Linear in its input."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ODDITIES: Final = {
    **dict.fromkeys([*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0xA0)]),
    **dict.fromkeys([0xAD, 0x200B, 0x2060, 0xFEFF, 0xFFFE, 0xFFFF]),
    **dict.fromkeys([0x0B, 0x0C, 0x85, 0x2028, 0x2029], "\n"),
    **dict.fromkeys([0xA0, 0x2007, 0x202F], " "),
    0x2011: "-",
    0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st",
}  # fmt: skip
_COMPOSED_AT_ONCE: Final = 1_000
_PIECE: Final = re.compile(r"\S{1,1000}")
_EMPTY_LINES: Final = re.compile(r"\n{3,}")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Composed Unicode without control characters, ligatures, invisible characters, trailing blanks and runs of empty lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _SURROGATE.sub("\ufffd", text).translate(_ODDITIES)
    lines = "\n".join(_composed(line).rstrip() for line in text.split("\n"))
    return _EMPTY_LINES.sub("\n\n", lines).strip("\n").rstrip()


def _composed(line: str) -> str:
    """Unicode's composed form (NFC), long lines piece by piece: sorting a run of combining marks takes quadratic time."""
    if line.isascii():
        return line
    if len(line) <= _COMPOSED_AT_ONCE:
        return unicodedata.normalize("NFC", line)
    return _PIECE.sub(lambda match: unicodedata.normalize("NFC", match[0]), line)


def one_line(text: str) -> str:
    """The cleaned text with every run of white space turned to one blank."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    return " ".join(clean_text(text).split())
