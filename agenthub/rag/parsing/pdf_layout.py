"""From the lines of PDF pages to paragraphs and headings: what a reader sees by gaps and sizes, worked out from positions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from agenthub.rag.parsing.document import DocumentBuilder


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and its box in points, counted from the page's lower left corner."""

    text: str
    left: float
    right: float
    bottom: float
    top: float

    @property
    def height(self) -> float:
        """The height of a letter's box: about the font size times 1.2."""
        return self.top - self.bottom


@dataclass(frozen=True, slots=True)
class PageLines:
    """The lines of one page in reading order."""

    number: int
    height: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class OutlineEntry:
    """An entry of the document's own outline; `level` and `page` count from 1."""

    title: str
    level: int
    page: int


@dataclass(slots=True)
class _Paragraph:
    page: int
    lines: list[Line]
    level: int = 0
    page_end: int | None = None


# Page headers and footers stand in these outer parts of a page and repeat at the same height.
_MARGIN_SHARE: Final = 0.12
_REPEATS_AT_LEAST: Final = 3
_REPEATS_SHARE: Final = 0.08
_PAGE_NUMBER: Final = re.compile(
    r"(?:page|seite|p\.)?\s{0,3}[-\u2013\u2014]?\s{0,3}(?:\d{1,4}|[ivxlc]{1,7})\s{0,3}[-\u2013\u2014]?(?:\s{0,3}(?:of|/|von)\s{0,3}\d{1,4})?\Z",
    re.IGNORECASE,
)
_LEADERS: Final = re.compile(r"(?:\.[ ]?){4,}[ ]{0,9}(?:\d{1,4}|[ivxlc]{1,7})?\Z", re.IGNORECASE)
_CONTENTS_SHARE: Final = 0.5
_BULLET: Final = re.compile(r"(?:[•‣◦▪●■○∙·*\u2013\u2014-]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_DIGITS: Final = re.compile(r"\d+")
_NOT_WORD: Final = re.compile(r"[\W_]+")
_AFTER_QUOTE: Final = re.compile(r"(?<=[\w.,!?]”)(?=[^\W\d_])")
_SENTENCE_END: Final = (".", "!", "?", ":", "。", "…", ".”", ".)")
_LARGER: Final = 1.12
_HEADING_CHARACTERS: Final = 160
_HEADING_LINES: Final = 4
# More large lines than this are no headings: a poster, or slides.
_HEADING_SHARE: Final = 0.25
_LEVELS: Final = 6
_NEW_PARAGRAPH_GAP: Final = 1.3
_SHORT_LINE_SHARE: Final = 0.15


def add_pages(builder: DocumentBuilder, pages: Sequence[PageLines], outline: Sequence[OutlineEntry]) -> None:
    """Add the pages' headings and paragraphs; a paragraph that runs on to the next page stays whole.

    Raises: PayloadTooLarge when the document is over its bounds.
    """
    cleaned = [_without_contents(page) for page in _without_furniture(pages)]
    heading_levels = _outline_levels(cleaned, outline) or _size_levels(cleaned)
    pitch = _usual_pitch(cleaned)
    paragraphs: list[_Paragraph] = []
    for page in cleaned:
        fresh = list(_paragraphs(page, heading_levels, pitch))
        if paragraphs and fresh and _runs_on(paragraphs[-1], fresh[0]):
            paragraphs[-1].lines.extend(fresh[0].lines)
            paragraphs[-1].page_end = page.number
            fresh = fresh[1:]
        paragraphs.extend(fresh)
    for paragraph in paragraphs:
        builder.page = paragraph.page
        # Closing quotes are drawn so narrow that the blank after them is not seen as a gap.
        text = _AFTER_QUOTE.sub(" ", join_lines([line.text for line in paragraph.lines]))
        if paragraph.level:
            builder.heading(text, paragraph.level)
        else:
            builder.add("list" if _BULLET.match(text) else "paragraph", text, page_end=paragraph.page_end)


def join_lines(lines: Sequence[str]) -> str:
    """One running text: words divided at a line's end are made whole, other line ends become blanks."""
    text = lines[0]
    for line in lines[1:]:
        if text.endswith("\u00ad"):
            text = text[:-1] + line
        elif text.endswith(("-", "\u2010", "\u2011")) and text[-2:-1].isalpha():
            # "docu-/ments" is one word; of "two-/Factor" and "COVID-/19" the hyphen is part.
            text = (text[:-1] if line[:1].islower() else text) + line
        else:
            text = f"{text} {line}"
    return text


def _without_furniture(pages: Sequence[PageLines]) -> list[PageLines]:
    """The pages without lines that repeat at the same height in the margin, and without page numbers."""
    body = _body_size(pages)
    seen = Counter(key for page in pages for key in {_furniture_key(line) for line in _margin_lines(page, body)})
    enough = max(_REPEATS_AT_LEAST, _REPEATS_SHARE * len(pages))
    kept: list[PageLines] = []
    for page in pages:
        margin = _margin_lines(page, body)
        dropped = {id(line) for line in margin if seen[_furniture_key(line)] >= enough or _PAGE_NUMBER.match(line.text)}
        kept.append(PageLines(page.number, page.height, tuple(line for line in page.lines if id(line) not in dropped)))
    return kept


def _margin_lines(page: PageLines, body: float) -> list[Line]:
    """The lines in the outer parts of a page, without large ones: "Chapter 2" on top of a page is a heading."""
    margin = page.height * _MARGIN_SHARE
    outer = (line for line in page.lines if line.bottom < margin or line.top > page.height - margin)
    return [line for line in outer if not _is_large(line, body)]


def _furniture_key(line: Line) -> tuple[str, int]:
    """What repeats: the words without their numbers, at a height in steps of 4 points."""
    return _DIGITS.sub("#", line.text), round(line.bottom / 4)


def _without_contents(page: PageLines) -> PageLines:
    """Without lines of a table of contents ("Scope . . . . 9"): they say nothing that the headings don't."""
    rest = tuple(line for line in page.lines if not _LEADERS.search(line.text))
    mostly_contents = len(page.lines) - len(rest) > _CONTENTS_SHARE * len(page.lines)
    return PageLines(page.number, page.height, () if mostly_contents else rest)


def _squeezed(text: str) -> str:
    return _NOT_WORD.sub("", text).casefold()


def _outline_levels(pages: Sequence[PageLines], outline: Sequence[OutlineEntry]) -> dict[int, int]:
    """The level of each line, by its identity, that is a title of the outline on the page the outline names."""
    titles: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for entry in outline:
        titles[entry.page].append((_squeezed(entry.title), entry.level))
    levels: dict[int, int] = {}
    for page in pages:
        for title, level in titles.get(page.number, ()):
            for line in _find_title(page.lines, title, levels):
                levels[id(line)] = level
    return levels


def _find_title(lines: Sequence[Line], title: str, taken: dict[int, int]) -> Sequence[Line]:
    """The first run of lines not taken yet that spells the title."""
    for start in range(len(lines)):
        if not title or id(lines[start]) in taken:
            continue
        spelled = ""
        for end in range(start, min(start + _HEADING_LINES, len(lines))):
            spelled += _squeezed(lines[end].text)
            if spelled == title:
                return lines[start : end + 1]
            if not title.startswith(spelled):
                break
    return ()


def _size_levels(pages: Sequence[PageLines]) -> dict[int, int]:
    """Without an outline: lines clearly larger than most of the text, the largest size being level 1."""
    body = _body_size(pages)
    large = [line for page in pages for line in page.lines if _is_large(line, body)]
    if len(large) > _HEADING_SHARE * sum(len(page.lines) for page in pages):
        return {}
    ranks = sorted({_rounded(line.height) for line in large}, reverse=True)
    return {id(line): min(ranks.index(_rounded(line.height)) + 1, _LEVELS) for line in large}


def _body_size(pages: Sequence[PageLines]) -> float:
    """The size that most characters have; 0 for no text."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[_rounded(line.height)] += len(line.text)
    return max(sizes, key=lambda size: (sizes[size], size), default=0.0)


def _is_large(line: Line, body: float) -> bool:
    return line.height >= body * _LARGER and len(line.text) <= _HEADING_CHARACTERS and any(map(str.isalpha, line.text))


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _usual_pitch(pages: Sequence[PageLines]) -> float:
    """The distance of two lines of one paragraph, in heights of a letter: the median over neighbours that could be."""
    pitches = [
        (above.bottom - below.bottom) / below.height
        for page in pages
        for above, below in zip(page.lines, page.lines[1:], strict=False)
        if below.height > 0 and 0.5 < (above.bottom - below.bottom) / below.height < 2.5
    ]
    return median(pitches) if pitches else 1.2


def _paragraphs(page: PageLines, heading_levels: dict[int, int], pitch: float) -> Iterator[_Paragraph]:
    current: _Paragraph | None = None
    right_edge = max((line.right for line in page.lines), default=0.0)
    for line in page.lines:
        level = heading_levels.get(id(line), 0)
        if current is not None and level == current.level and _continues(current, line, pitch, right_edge):
            current.lines.append(line)
            continue
        if current is not None:
            yield current
        current = _Paragraph(page.number, [line], level)
    if current is not None:
        yield current


def _continues(paragraph: _Paragraph, line: Line, pitch: float, right_edge: float) -> bool:
    """Whether a line goes on where the paragraph stopped: same size, usual distance, no bullet, no full stop before the edge."""
    last = paragraph.lines[-1]
    if _same_row(paragraph, line):
        return True
    distance = (last.bottom - line.bottom) / line.height if line.height > 0 else pitch
    if paragraph.level:
        return 0 < distance < pitch * _NEW_PARAGRAPH_GAP * 1.2
    if not 0.3 < distance < pitch * _NEW_PARAGRAPH_GAP or _BULLET.match(line.text):
        return False
    if abs(last.height - line.height) > 0.15 * max(last.height, line.height):
        return False
    short = last.right < right_edge * (1 - _SHORT_LINE_SHARE)
    return not (short and last.text.endswith(_SENTENCE_END))


def _same_row(paragraph: _Paragraph, line: Line) -> bool:
    """A cell beside the paragraph: within its height and to its right."""
    middle = (line.top + line.bottom) / 2
    top = max(each.top for each in paragraph.lines[-12:])
    bottom = min(each.bottom for each in paragraph.lines[-12:])
    return bottom < middle < top and line.left > max(each.left for each in paragraph.lines[-12:])


def _runs_on(last: _Paragraph, first: _Paragraph) -> bool:
    """Whether a paragraph goes on over the page break: it stops mid-sentence and the next page starts in lower case."""
    if last.level or first.level or not last.lines or _BULLET.match(first.lines[0].text):
        return False
    return not last.lines[-1].text.endswith(_SENTENCE_END) and first.lines[0].text[:1].islower()
