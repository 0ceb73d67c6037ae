"""Plain text: paragraphs between empty lines, form feeds as pages, and the few headings that are plain to see."""

from __future__ import annotations

import re
from typing import Final

from agenthub.rag.parsing.characters import clean_text
from agenthub.rag.parsing.decoding import decode_text
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_HEADING_CHARACTERS: Final = 60
_HEADING_WORDS: Final = 8
_BODY_CHARACTERS: Final = 80
_BULLET: Final = re.compile(r"\s{0,8}(?:[-*+•\u2013]|\d{1,3}[.)])\s")
_UNDERLINE: Final = re.compile(r"(?:={3,}|-{3,}|~{3,}|\*{3,})\Z")
_WORD: Final = re.compile(r"[^\W\d_]{3}")
_TITLES_AT_ONCE: Final = 2


def read_plain(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The paragraphs of a text in any encoding.

    Raises: UnsupportedDocument when it is binary, damaged or blank; PayloadTooLarge when over the limits.
    """
    text, encoding = decode_text(data)
    builder = DocumentBuilder(limits)
    pages = text.rstrip("\f").split("\f")
    for number, page in enumerate(pages, start=1):
        builder.page = number if len(pages) > 1 else None
        _add_page(builder, clean_text(page))
    return builder.finish(MEDIA_TYPES[Kind.PLAIN], page_count=len(pages) if len(pages) > 1 else None, metadata={"encoding": encoding})


def _add_page(builder: DocumentBuilder, text: str) -> None:
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    for position, paragraph in enumerate(paragraphs):
        following = paragraphs[position + 1] if position + 1 < len(paragraphs) else ""
        lines = paragraph.split("\n")
        if len(lines) > 1 and _is_titlelike(lines[0]) and _UNDERLINE.match(lines[1]):
            builder.heading(lines[0], 1 if lines[1][0] == "=" else 2)
            lines = lines[2:]
        else:
            titles = _title_count(lines, following)
            for level, title in enumerate(lines[:titles], start=1):
                builder.heading(title, level)
            lines = lines[titles:]
        rest = "\n".join(lines)
        builder.add("list" if _BULLET.match(rest) else "paragraph", rest)


def _title_count(lines: list[str], following: str) -> int:
    """How many lines at the start of a paragraph are titles: one or two, if notes ("See also: X") and then a long line follow."""
    titles = 0
    while titles < len(lines) and _is_titlelike(lines[titles]):
        titles += 1
    body = titles
    while body < len(lines) and len(lines[body]) <= _BODY_CHARACTERS and ": " in lines[body]:
        body += 1
    first = lines[body] if body < len(lines) else following.partition("\n")[0]
    return titles if titles <= _TITLES_AT_ONCE and len(first) >= _BODY_CHARACTERS else 0


def _is_titlelike(line: str) -> bool:
    """Short, not indented, begins like a title and does not end like a sentence."""
    line = line.rstrip()
    return (
        0 < len(line) <= _HEADING_CHARACTERS
        and "\t" not in line
        and (line[0].isupper() or line[0].isdigit())
        and line[-1] not in ".,;:!?-"
        and len(line.split()) <= _HEADING_WORDS
        and ": " not in line
        and _WORD.search(line) is not None
        and not _BULLET.match(line)
    )
