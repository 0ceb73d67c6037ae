"""Markdown: its structure by markdown-it-py, its words without the marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from agenthub.rag.parsing.characters import clean_text, one_line
from agenthub.rag.parsing.decoding import decode_text
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_FRONT_MATTER: Final = re.compile(r"---\n(?P<fields>.{0,10000}?)\n---(?:\n|\Z)", re.DOTALL)
_TITLE_FIELD: Final = re.compile(r"^title:[ ]*(?P<title>[^\n]*)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"<!--[^<]{0,20000}-->")
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,2000}>")


def read_markdown(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The headings, paragraphs, lists, tables and code of a Markdown file.

    Raises: UnsupportedDocument when it is binary or blank; PayloadTooLarge when over the limits.
    """
    text, encoding = decode_text(data)
    body, title = _without_front_matter(clean_text(text))
    builder = DocumentBuilder(limits)
    walker = _Walker(builder)
    walker.walk(MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").parse(body))
    return builder.finish(MEDIA_TYPES[Kind.MARKDOWN], title=title or walker.title, metadata={"encoding": encoding})


def _without_front_matter(text: str) -> tuple[str, str | None]:
    """The text after a YAML header, and the header's title. The header is not parsed as YAML."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return text, None
    title = _TITLE_FIELD.search(match["fields"])
    return text[match.end() :], title["title"].strip("\"' ") if title else None


def inline_text(token: Token) -> str:
    """The words of an inline token: link texts and image descriptions, no addresses, no emphasis marks, no HTML tags."""
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak" or (child.type == "html_inline" and child.content[:3].lower() == "<br"):
            parts.append("\n")
        elif child.type == "image":
            parts.append(inline_text(child))
    return "".join(parts)


class _Walker:
    """Turns markdown-it's flat list of tokens into blocks; a list and a table become one block each."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._list_lines: list[str] = []
        self._markers: list[tuple[str, int]] = []
        self._fresh_item = False
        self._rows: list[list[str]] = []
        self._heading_level = 0
        self._top_headings: list[str] = []
        self._handlers: dict[str, Callable[[Token], None]] = {
            "heading_open": self._open_heading,
            "inline": self._inline,
            "fence": self._code,
            "code_block": self._code,
            "html_block": self._html,
            "bullet_list_open": self._open_list,
            "ordered_list_open": self._open_list,
            "list_item_open": self._open_item,
            "bullet_list_close": self._close_list,
            "ordered_list_close": self._close_list,
            "tr_open": self._open_row,
            "table_close": self._close_table,
        }

    @property
    def title(self) -> str | None:
        """The top heading, if there is exactly one."""
        return self._top_headings[0] if len(self._top_headings) == 1 else None

    def walk(self, tokens: Sequence[Token]) -> None:
        """Add a block for each structure in the tokens."""
        for token in tokens:
            handler = self._handlers.get(token.type)
            if handler is not None:
                handler(token)

    def _open_heading(self, token: Token) -> None:
        self._heading_level = int(token.tag[1])

    def _inline(self, token: Token) -> None:
        text = inline_text(token)
        if self._heading_level:
            self._top_headings += [one_line(text)] if self._heading_level == 1 else []
            self._builder.heading(text, self._heading_level)
            self._heading_level = 0
        elif self._rows:
            self._rows[-1].append(one_line(text))
        elif self._markers:
            self._add_to_item(text)
        else:
            self._builder.add("paragraph", text)

    def _add_to_item(self, text: str) -> None:
        indent = "  " * (len(self._markers) - 1)
        marker, number = self._markers[-1]
        prefix = (f"{number}. " if marker else "- ") if self._fresh_item else "  "
        self._fresh_item = False
        self._list_lines.extend(indent + (prefix if first == 0 else "  ") + line for first, line in enumerate(text.split("\n")))

    def _code(self, token: Token) -> None:
        if self._markers:
            self._add_to_item(token.content.rstrip("\n"))
        else:
            self._builder.add("code", token.content)

    def _html(self, token: Token) -> None:
        text = _TAG.sub(" ", _COMMENT.sub(" ", token.content))
        if self._markers and text.strip():
            self._add_to_item(one_line(text))
        elif not self._markers:
            self._builder.add("paragraph", "\n".join(one_line(line) for line in text.split("\n")))

    def _open_list(self, token: Token) -> None:
        start = token.attrGet("start")
        self._markers.append(("1" if token.type == "ordered_list_open" else "", int(start) - 1 if start is not None else 0))

    def _open_item(self, _token: Token) -> None:
        marker, number = self._markers[-1]
        self._markers[-1] = (marker, number + 1)
        self._fresh_item = True

    def _close_list(self, _token: Token) -> None:
        self._markers.pop()
        if not self._markers:
            self._builder.add("list", "\n".join(self._list_lines))
            self._list_lines.clear()

    def _open_row(self, _token: Token) -> None:
        self._rows.append([])

    def _close_table(self, _token: Token) -> None:
        self._builder.add("table", "\n".join(" | ".join(row) for row in self._rows))
        self._rows.clear()
