"""What every parser makes of a file: blocks of clean text in reading order, each with its place in the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.core.json import dumps, loads
from agenthub.rag.parsing.characters import clean_text, one_line
from agenthub.rag.parsing.limits import ParsingLimits

BlockKind = Literal["heading", "paragraph", "list", "table", "code", "row", "notes"]
SEPARATOR: Final = "\n\n"
_HEADING_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Block:
    """One paragraph, heading, table, list, code listing or record.

    `level` is 1..9 for headings, else 0. `page` counts from 1 (a slide's number in a presentation); `page_end` is the page
    a paragraph runs on to. `row` is the record's number in its sheet or list, counted from 1 as its reader would.
    `headings` are those above, outermost first, without the block itself.
    """

    kind: BlockKind
    text: str
    level: int = 0
    page: int | None = None
    page_end: int | None = None
    headings: tuple[str, ...] = ()
    sheet: str | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A read document. It has at least one block, and no block is empty.

    `title` is what the document calls itself, `language` a BCP 47 tag it declares; None where it says nothing.
    `page_count` is None for kinds without pages. `metadata` holds plain JSON values such as the text encoding.
    """

    title: str | None
    blocks: tuple[Block, ...]
    language: str | None
    media_type: str
    page_count: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def canonical_text(parsed: ParsedDocument) -> str:
    """The text that chunk offsets count in: all blocks, an empty line between two."""
    return SEPARATOR.join(block.text for block in parsed.blocks)


def to_json(parsed: ParsedDocument) -> bytes:
    """The document as JSON, for `from_json` in another process."""
    return dumps(parsed)


def from_json(data: bytes) -> ParsedDocument:
    """The document `to_json` was given.

    Raises: MalformedInput when it is not JSON; KeyError, TypeError or ValueError when it is not such a document.
    """
    value = loads(data)
    blocks = tuple(Block(**{**block, "headings": tuple(block["headings"])}) for block in value["blocks"])
    return ParsedDocument(**{**value, "blocks": blocks})


class DocumentBuilder:
    """Collects blocks in reading order, keeps the path of headings and the bounds on text."""

    def __init__(self, limits: ParsingLimits) -> None:
        self._limits = limits
        self._blocks: list[Block] = []
        self._path: list[tuple[int, str]] = []
        self._characters = 0
        self.page: int | None = None
        self.sheet: str | None = None

    @property
    def block_count(self) -> int:
        """Blocks added so far."""
        return len(self._blocks)

    def heading(self, text: str, level: int) -> None:
        """Open a section; it closes those of the same or a deeper level.

        Raises: PayloadTooLarge when the document is over its bounds.
        """
        line = one_line(text)[:_HEADING_CHARACTERS]
        if not line:
            return
        level = min(max(level, 1), 9)
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._append(Block("heading", line, level, self.page, None, self._headings(), self.sheet))
        self._path.append((level, line))

    def leave_headings(self) -> None:
        """Close all sections: what follows stands under no heading."""
        self._path.clear()

    def add(self, kind: BlockKind, text: str, *, row: int | None = None, page_end: int | None = None) -> None:
        """Add a block under the open headings; white space alone adds nothing.

        Raises: PayloadTooLarge when the document is over its bounds.
        """
        cleaned = clean_text(text)
        if cleaned:
            self._append(Block(kind, cleaned, 0, self.page, page_end, self._headings(), self.sheet, row))

    def finish(
        self, media_type: str, *, title: str | None = None, language: str | None = None,
        page_count: int | None = None, metadata: Mapping[str, Any] | None = None,
    ) -> ParsedDocument:  # fmt: skip
        """The document.

        Raises: UnsupportedDocument when no letter or digit was found in it.
        """
        if not any(character.isalnum() for block in self._blocks for character in block.text):
            raise UnsupportedDocument("the file holds no text")
        name = one_line(title or "")[:_HEADING_CHARACTERS] or None
        tag = one_line(language or "")[:35] or None
        return ParsedDocument(name, tuple(self._blocks), tag, media_type, page_count, dict(metadata or {}))

    def _headings(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._path)

    def _append(self, block: Block) -> None:
        self._characters += len(block.text) + len(SEPARATOR)
        if self._characters > self._limits.text_characters:
            raise PayloadTooLarge(f"the document holds more than {self._limits.text_characters:,} characters of text")
        if len(self._blocks) >= self._limits.blocks:
            raise PayloadTooLarge(f"the document has more than {self._limits.blocks:,} paragraphs or rows")
        self._blocks.append(block)
