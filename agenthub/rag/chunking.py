"""From a parsed document to chunks: the pieces of text that are embedded, searched and shown.

The default size suits the embedded model, which reads 256 tokens. Measured with its tokenizer on the documents of
`../shared/data`: of chunks of up to 1,000 characters 0 to 3 % are longer than 256 tokens and the median is 160 to 195, which
leaves room for the path of headings; of up to 1,200 characters 6 to 30 % would be cut off.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, dropwhile, groupby, takewhile
from typing import Any, Final, Literal, get_args

from semantic_text_splitter import TextSplitter

from agenthub.core.errors import InvalidInput
from agenthub.rag.parsing.document import SEPARATOR, Block, ParsedDocument, canonical_text

CHUNKER_VERSION: Final = "1"
"""Raise it whenever the same document and settings would give other chunks."""

Strategy = Literal["structure", "sentences", "fixed", "none"]
MIN_CHARACTERS: Final = 100
MAX_CHARACTERS: Final = 20_000
DEFAULT_CHARACTERS: Final = 1_000
DEFAULT_OVERLAP: Final = 150
# The path of headings in front of an embedded chunk: some 40 of the model's 256 tokens at most.
_CONTEXT_CHARACTERS: Final = 200
# Records (CSV rows, JSON objects) share a chunk only while they are tiny: a hit should be the record, not its neighbours.
_RECORD_SHARE: Final = 4
# A piece of running text shorter than this share of the size is joined with its neighbour.
_CRUMB_SHARE: Final = 8
_WINDOW_PIECES: Final = 8
_WINDOW_CHARACTERS: Final = 20_000
_LINE_BREAKS: Final = str.maketrans("\n", " ")
_WORD_BEFORE: Final = re.compile(r"\s\S*\Z")


@dataclass(frozen=True, slots=True)
class ChunkingSettings:
    """How a knowledge base cuts its documents; sizes in characters.

    `structure` keeps to sections, paragraphs, table rows and records. `sentences` packs sentences and ignores sections.
    `fixed` cuts windows of exactly `max_characters`. `none` makes the whole document one chunk.

    Raises: InvalidInput when the strategy is unknown, the size is not 100..20,000 or the overlap not below half of it.
    """

    strategy: Strategy = "structure"
    max_characters: int = DEFAULT_CHARACTERS
    overlap_characters: int = DEFAULT_OVERLAP

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise InvalidInput(f"must be one of {', '.join(get_args(Strategy))}", field="chunking.strategy")
        if not MIN_CHARACTERS <= self.max_characters <= MAX_CHARACTERS:
            raise InvalidInput(f"must be {MIN_CHARACTERS} to {MAX_CHARACTERS}", field="chunking.max_characters")
        if not 0 <= self.overlap_characters * 2 < self.max_characters:
            raise InvalidInput("must be 0 or more, and less than half of max_characters", field="chunking.overlap_characters")


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A chunk before it has an id.

    `start` and `end` are offsets in `canonical_text`; `text` is that slice without its outer white space, except that each
    piece of a divided table begins with the table's first line again. `context` is the path that leads to the chunk ("Title >
    Heading"), without headings the text itself starts with. `metadata` holds, where they apply, `page` and `page_end` (when it
    is another), `headings`, `sheet`, `row` and `kind`.
    """

    text: str
    context: str
    start: int
    end: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def embedding_text(self) -> str:
        """What to embed: the context in front, so that "It must be 12 characters long" is found under "Passwords"."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class _Placed:
    """A block with its offsets in the canonical text."""

    block: Block
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Span:
    """Offsets of a chunk and a line to repeat in front of it."""

    start: int
    end: int
    repeat: str = ""


def chunk_document(parsed: ParsedDocument, settings: ChunkingSettings) -> list[ChunkDraft]:
    """The document's chunks in reading order; at least one, none empty.

    The same document, settings and `CHUNKER_VERSION` give the same chunks.
    """
    text = canonical_text(parsed)
    placed = _place(parsed.blocks)
    spans = list(_spans(text, placed, settings))
    chunks = _Drafter(parsed, text, placed)
    drafts = [chunks.draft(span) for span in spans]
    useful = [draft for draft in drafts if any(character.isalnum() for character in draft.text)]
    return useful or drafts[:1]


def _place(blocks: Sequence[Block]) -> list[_Placed]:
    ends = accumulate(len(block.text) + len(SEPARATOR) for block in blocks)
    placed = ((block, end - len(SEPARATOR)) for block, end in zip(blocks, ends, strict=True))
    return [_Placed(block, end - len(block.text), end) for block, end in placed]


def _spans(text: str, placed: Sequence[_Placed], settings: ChunkingSettings) -> Iterator[_Span]:
    if settings.strategy == "none":
        yield _Span(0, len(text))
    elif settings.strategy == "fixed":
        step = settings.max_characters - settings.overlap_characters
        for start in range(0, max(len(text) - settings.overlap_characters, 1), step):
            yield _Span(start, min(start + settings.max_characters, len(text)))
    elif settings.strategy == "sentences":
        # Line ends would be stronger borders than sentences; blanks of the same length leave the offsets as they are.
        yield from _split(text.translate(_LINE_BREAKS), 0, settings)
    else:
        for section in _sections(placed):
            yield from _section_spans(text, section, settings)


def _sections(placed: Sequence[_Placed]) -> Iterator[list[_Placed]]:
    """Runs of blocks under the same headings of the same sheet. Headings without a text of their own go with what follows."""
    section: list[_Placed] = []
    has_body = False
    for item in placed:
        if has_body and _starts_section(section[-1].block, item.block):
            yield section
            section, has_body = [], False
        section.append(item)
        has_body = has_body or item.block.kind != "heading"
    if section:
        yield section


def _starts_section(previous: Block, block: Block) -> bool:
    return block.kind == "heading" or block.headings != previous.headings or block.sheet != previous.sheet


def _section_spans(text: str, section: Sequence[_Placed], settings: ChunkingSettings) -> Iterator[_Span]:
    """One chunk if all fits, else tables by rows, records one by one or few together, and running text by its sentences."""
    records = any(item.block.kind == "row" for item in section)
    # Headings right above a table or records are in the context of each piece; alone they would be an empty hit.
    if records or _is_long_table(section, settings):
        section = list(dropwhile(lambda item: item.block.kind == "heading", section)) or section
    if section[-1].end - section[0].start <= settings.max_characters and not records:
        yield _Span(section[0].start, section[-1].end)
        return
    for form, run in groupby(section, key=lambda item: _form(item.block)):
        items = list(run)
        if form == "table":
            for item in items:
                yield from _table_spans(text, item, settings)
        elif form == "row":
            yield from _record_spans(text, items, settings)
        else:
            yield from _split(text[items[0].start : items[-1].end], items[0].start, settings)


def _is_long_table(section: Sequence[_Placed], settings: ChunkingSettings) -> bool:
    """Whether the section is a table that will be divided, right under its headings."""
    first = next((item for item in section if item.block.kind != "heading"), None)
    return first is not None and first.block.kind == "table" and first.end - first.start > settings.max_characters


def _form(block: Block) -> str:
    return block.kind if block.kind in ("table", "row") else "flow"


def _record_spans(text: str, items: Sequence[_Placed], settings: ChunkingSettings) -> Iterator[_Span]:
    small = settings.max_characters // _RECORD_SHARE
    start = items[0].start
    for item, following in zip(items, [*items[1:], None], strict=True):
        if following is not None and following.end - start <= small:
            continue
        yield from _split(text[start : item.end], start, settings)
        if following is not None:
            start = following.start


def _table_spans(text: str, item: _Placed, settings: ChunkingSettings) -> Iterator[_Span]:
    """Whole rows up to the size, the first row repeated; a row that is too long alone is cut like running text."""
    if item.end - item.start <= settings.max_characters:
        yield _Span(item.start, item.end)
        return
    head = text[item.start : item.end].partition("\n")[0]
    repeat = head if len(head) <= settings.max_characters // 3 else ""
    room = settings.max_characters - (len(repeat) + 1 if repeat else 0)
    start = item.start
    for row_start, row_end in _lines(text, item.start, item.end):
        if row_end - start > room and row_start > start:
            yield from _rows_span(text, start, row_start - 1, repeat if start > item.start else "", settings)
            start = row_start
    yield from _rows_span(text, start, item.end, repeat if start > item.start else "", settings)


def _rows_span(text: str, start: int, end: int, repeat: str, settings: ChunkingSettings) -> Iterator[_Span]:
    if end - start + len(repeat) + 1 <= settings.max_characters:
        yield _Span(start, end, repeat)
    else:
        yield from _split(text[start:end], start, settings)


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        yield start, stop
        start = stop + 1


def _split(text: str, offset: int, settings: ChunkingSettings) -> Iterator[_Span]:
    """Cut running text at paragraphs, lines, sentences or words, whichever is the largest that fits, with the overlap."""
    if len(text) <= settings.max_characters:
        yield _Span(offset, offset + len(text))
        return
    for start, end in _without_crumbs(text, _pieces(text, settings.max_characters, settings), settings):
        yield _Span(offset + start, offset + end)


def _pieces(text: str, size: int, settings: ChunkingSettings) -> list[tuple[int, int]]:
    """The splitter's pieces. It takes quadratic time, so a long text is given to it in windows, each from the last piece on."""
    splitter = TextSplitter(size, min(settings.overlap_characters, size // 2 - 1), trim=True)
    window = max(_WINDOW_PIECES * size, _WINDOW_CHARACTERS)
    pieces: list[tuple[int, int]] = []
    position = 0
    while True:
        fresh = [(position + at, position + at + len(piece)) for at, piece in splitter.chunk_indices(text[position : position + window])]
        if position + window >= len(text) or len(fresh) < _WINDOW_PIECES // 2:
            pieces += fresh
            position += window
        else:
            # The last piece was cut short by the window's end.
            pieces += fresh[:-1]
            position = fresh[-1][0]
        if position >= len(text) or (fresh and fresh[-1][1] >= len(text)):
            return pieces


def _without_crumbs(text: str, pieces: list[tuple[int, int]], settings: ChunkingSettings) -> list[tuple[int, int]]:
    """Pieces such as a lone heading before a paragraph that fills a chunk are evened out with the following, or the last, piece."""
    kept: list[tuple[int, int]] = []
    queue = deque(pieces)
    while queue:
        start, end = queue.popleft()
        if end - start >= settings.max_characters // _CRUMB_SHARE:
            kept.append((start, end))
        elif queue:
            kept.extend(_evened_out(text, start, queue.popleft()[1], settings))
        elif kept:
            kept.extend(_evened_out(text, kept.pop()[0], end, settings))
        else:
            kept.append((start, end))
    return kept


def _evened_out(text: str, start: int, end: int, settings: ChunkingSettings) -> list[tuple[int, int]]:
    """A text of one or two sizes in pieces of about the same length, cut between sentences even where a paragraph ends nearby."""
    flat = text[start:end].translate(_LINE_BREAKS)
    length = end - start
    if length <= settings.max_characters:
        return [(start, end)]
    count = -(-length // (settings.max_characters - settings.overlap_characters))
    size = min(settings.max_characters, (length // count + settings.overlap_characters) * 6 // 5)
    return [(start + first, start + last) for first, last in _pieces(flat, size, settings)]


class _Drafter:
    """Makes drafts of spans that come in rising order."""

    def __init__(self, parsed: ParsedDocument, text: str, placed: Sequence[_Placed]) -> None:
        self._title = parsed.title
        self._text = text
        self._placed = placed
        self._first = 0

    def draft(self, span: _Span) -> ChunkDraft:
        """The span as a chunk, with the place of its blocks."""
        raw = self._text[span.start : span.end]
        body = raw.strip()
        start = span.start + len(raw) - len(raw.lstrip())
        items = self._covered(span)
        bodies = [item.block for item in items if item.block.kind != "heading"] or [items[0].block]
        path = _common_path([block.headings for block in bodies])
        text = f"{span.repeat}\n{body}" if span.repeat else body
        metadata = _metadata(bodies[0], [item.block for item in items], path)
        return ChunkDraft(text, self._context(path, items, span), start, start + len(body), metadata)

    def _covered(self, span: _Span) -> Sequence[_Placed]:
        """The blocks the span touches. Spans rise, so the search goes on where the last one began."""
        while self._first + 1 < len(self._placed) and self._placed[self._first].end <= span.start:
            self._first += 1
        last = self._first + 1
        while last < len(self._placed) and self._placed[last].start < span.end:
            last += 1
        return self._placed[self._first : last]

    def _context(self, path: Sequence[str], items: Sequence[_Placed], span: _Span) -> str:
        shown = {item.block.text for item in items if item.block.kind == "heading" and item.start >= span.start}
        line = [self._title] if self._title else []
        line += [heading for heading in path if not line or heading.casefold() != line[-1].casefold()]
        return _shortened([part for part in line if part not in shown])


def _common_path(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The headings that all blocks of a chunk stand under."""
    first, last = min(paths), max(paths)
    same = (mine == theirs for mine, theirs in zip(first, last, strict=False))
    return first[: sum(takewhile(bool, same))]


def _shortened(path: Sequence[str]) -> str:
    """The path in one line; a long one loses its middle, then the rest is cut at a word."""
    parts = list(path)
    while len(" > ".join(parts)) > _CONTEXT_CHARACTERS and len(parts) > 2:
        del parts[len(parts) // 2 - (len(parts) % 2 == 0)]
    line = " > ".join(parts)
    return line if len(line) <= _CONTEXT_CHARACTERS else _WORD_BEFORE.sub("", line[:_CONTEXT_CHARACTERS]) + "…"


def _metadata(main: Block, blocks: Sequence[Block], path: Sequence[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"kind": main.kind}
    pages = [page for block in blocks for page in (block.page, block.page_end) if page is not None]
    if pages:
        metadata["page"] = pages[0]
        if max(pages) != pages[0]:
            metadata["page_end"] = max(pages)
    if path:
        metadata["headings"] = list(path)
    if main.sheet is not None:
        metadata["sheet"] = main.sheet
    if main.row is not None:
        metadata["row"] = main.row
    return metadata
