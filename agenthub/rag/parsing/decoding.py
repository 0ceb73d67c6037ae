"""Bytes of unknown encoding to text. Everything here is linear in its input."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import Final

from charset_normalizer import CharsetMatch, from_bytes

from agenthub.core.errors import UnsupportedDocument

BINARY: Final = "the file is binary data of an unknown kind, not text"
_SAMPLE_BYTES: Final = 64 * 1024
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Escape, form feed, tab and line ends occur in text; the others, more than one in 500, do not.
_CONTROL_BYTES: Final = bytes([*range(0x08), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])
# Those in use on the web and in old office files; without this list charset-normalizer finds rare ones in short texts.
_CODE_PAGES: Final = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "koi8_r", "cp932", "euc_jp",
    "gb18030", "big5", "euc_kr", "cp437", "cp852", "cp866", "mac_roman",
)  # fmt: skip
_WESTERN_HEADSTART: Final = 0.065
_LONG_WORD: Final = 40
_JAPANESE_ESCAPE: Final = re.compile(rb"\x1b\$[@B]|\x1b\([BJ]")
# Symbols inside a word, and Korean letters that are not joined to syllables: what a wrong code page makes of a text.
_MISREAD: Final = re.compile(r"(?<=[^\W\d_])[\u00a1-\u00bf\u02c7\u02d8-\u02dd\u2500-\u25ff](?=[^\W\d_])|[\u3131-\u318e]")


def decode_text(data: bytes) -> tuple[str, str]:
    """The text and the name of the encoding it was read with.

    A byte order mark decides, then UTF-8, then UTF-16 and UTF-32 told by their zero bytes, then the statistics of
    charset-normalizer.

    Raises: UnsupportedDocument when the data are no text, or damaged text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data, encoding)
    if b"\x00" in data:
        return _wide(data)
    if len(data) - len(data.translate(None, _CONTROL_BYTES)) > max(2, len(data) // 500):
        return _wide(data)
    for encoding in ("iso2022_jp",) if _JAPANESE_ESCAPE.search(data) else ("utf-8",):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return _guessed(data)


def _decoded(data: bytes, encoding: str) -> tuple[str, str]:
    try:
        return data.decode(encoding), encoding.removesuffix("-sig")
    except UnicodeError as error:
        raise UnsupportedDocument(f"the text is damaged: it is not valid {encoding.removesuffix('-sig').upper()}") from error


def _wide(data: bytes) -> tuple[str, str]:
    """UTF-16 or UTF-32 without a byte order mark: the readings are tried, the most text-like is kept."""
    best, best_score, best_encoding = "", 0.0, ""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = data.decode(encoding)
        except UnicodeError:
            continue
        score = _likeness(text[:4096])
        if score > best_score:
            best, best_score, best_encoding = text, score, encoding
    if best_score < 0.97:
        raise UnsupportedDocument(BINARY)
    return best, best_encoding


def _likeness(text: str) -> float:
    """How much a text looks written by people, 0..1: no control or unassigned characters, and blanks or stops as in text."""
    good = sum(character in "\t\n\r\f" or unicodedata.category(character)[0] in "LMNPSZ" for character in text)
    familiar = sum(character in " \n\u3000,.\u3001\u3002" for character in text)
    if not text or (not familiar and len(text) > _LONG_WORD):
        return 0.0
    return good / len(text) + (0.01 if familiar else 0.0) + min(familiar / len(text), 0.2) / 100


def _guessed(data: bytes) -> tuple[str, str]:
    """An 8-bit or East Asian encoding, from a sample that ends with a line."""
    sample = data if len(data) <= _SAMPLE_BYTES else data[: data.rfind(b"\n", 0, _SAMPLE_BYTES) + 1 or _SAMPLE_BYTES]
    matches = list(from_bytes(sample, cp_isolation=list(_CODE_PAGES), preemptive_behaviour=False))
    if not matches:
        raise UnsupportedDocument(BINARY)
    encoding = _settled(matches)
    return data.decode(encoding, errors="replace"), encoding


def _settled(matches: list[CharsetMatch]) -> str:
    """The one of the cleanest readings that suits the words best; Western European where short texts leave it open."""
    disorder = {match.encoding: match.chaos + _awkwardness(str(match)) for match in matches}
    best = min(disorder.values())
    close = [m for m in matches if disorder[m.encoding] <= best + (_WESTERN_HEADSTART if _is_western(m) else 0.005)]
    chosen = max(close, key=lambda m: (m.coherence + (0.05 if _is_western(m) else -0.05 if m.encoding == "cp1257" else 0.0), m.encoding))
    return "cp1252" if _is_western(chosen) else chosen.encoding


def _is_western(match: CharsetMatch) -> bool:
    return "cp1252" in match.could_be_from_charset


def _awkwardness(text: str) -> float:
    """The share of non-ASCII characters that look misread."""
    foreign = sum(character > "\x7f" for character in text)
    return len(_MISREAD.findall(text)) / foreign if foreign else 0.0
