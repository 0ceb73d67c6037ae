"""DOCX: headings, paragraphs, lists and tables in the order of the document, with tracked insertions, without deletions."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, Final

from docx.document import Document
from docx.opc.part import PartFactory
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from docx.package import Package
from docx.parts.document import DocumentPart
from docx.styles.style import BaseStyle

from agenthub.rag.parsing.characters import one_line
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_P, _TBL, _TR, _TC = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_VALUE: Final = qn("w:val")
_FOOTNOTES: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
_FALLBACK: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_CHARACTERS: Final = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_TEXTS: Final = frozenset({qn("w:t"), "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"})
_TEXT_BOX: Final = qn("w:txbxContent")
# Deleted text, field codes, properties, and the old twin of a drawing. A text box is read after its paragraph.
_SKIPPED: Final = frozenset({qn("w:del"), qn("w:moveFrom"), qn("w:instrText"), qn("w:pPr"), qn("w:rPr"), _FALLBACK, _TEXT_BOX})
_HEADING_STYLE: Final = re.compile(r"heading ([1-9])\Z", re.IGNORECASE)
_CONTENTS_STYLE: Final = re.compile(r"(?:toc [1-9]|toc heading|table of (?:figures|authorities))\Z", re.IGNORECASE)
_CONTENTS_GALLERY: Final = "Table of Contents"
_MAX_NESTING: Final = 50
_MAIN_TYPES: Final = (
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
    "application/vnd.ms-word.document.macroEnabled.main+xml",
)


def read_word(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The document's body and footnotes; tables of contents, page headers and footers are left out.

    Raises: UnsupportedDocument when it holds no text; PayloadTooLarge when over the limits. Damaged files raise whatever
    python-docx and lxml raise.
    """
    document = _open(data)
    builder = DocumentBuilder(limits)
    walker = _Walker(builder, document)
    walker.walk(document.element.body, 0)
    walker.flush_list()
    _add_footnotes(builder, document)
    properties = document.core_properties
    own_title = "" if properties.title.lower() in ("word document", "document", "untitled") else properties.title
    return builder.finish(MEDIA_TYPES[Kind.WORD], title=walker.title or own_title, language=properties.language)


def _open(data: bytes) -> Document:
    """python-docx's door opens plain documents only; templates and macro-enabled files have the same main part."""
    for content_type in _MAIN_TYPES:
        PartFactory.part_type_for[content_type] = DocumentPart
    part: Any = Package.open(io.BytesIO(data)).main_document_part
    document: Document = part.document
    return document


def _add_footnotes(builder: DocumentBuilder, document: Document) -> None:
    parts = [rel.target_part for rel in document.part.rels.values() if rel.reltype == _FOOTNOTES and not rel.is_external]
    builder.leave_headings()
    for part in parts:
        for note in parse_xml(part.blob):
            builder.add("notes", "\n".join(_paragraph_text(p) for p in note.iter(_P)))


class _Walker:
    """Walks the body, content controls included, and gathers list items into one block."""

    def __init__(self, builder: DocumentBuilder, document: Document) -> None:
        self._builder = builder
        self._styles = {style.style_id: style for style in document.styles}
        self._list_lines: list[str] = []
        self.title: str | None = None

    def walk(self, container: Any, depth: int) -> None:
        """Add a block for each paragraph and table inside, in order."""
        for child in container:
            if child.tag == _P:
                self._paragraph(child, depth)
            elif child.tag == _TBL:
                self.flush_list()
                self._builder.add("table", "\n".join(_table_lines(child)))
            elif depth < _MAX_NESTING and child.tag not in _SKIPPED and not _is_contents(child):
                self.walk(child, depth + 1)

    def flush_list(self) -> None:
        """End the list that is being gathered."""
        self._builder.add("list", "\n".join(self._list_lines))
        self._list_lines.clear()

    def _paragraph(self, paragraph: Any, depth: int) -> None:
        style = self._styles.get(_property(paragraph, "w:pStyle") or "")
        names = [name for name in (each.name for each in _chain(style)) if name]
        text = _paragraph_text(paragraph)
        if any(_CONTENTS_STYLE.match(name) for name in names):
            return
        level = _heading_level(paragraph, style, names)
        if level:
            self.flush_list()
            self._builder.heading(text, level)
        elif _is_list_item(paragraph, style):
            self._list_lines.extend(_list_item(paragraph, text))
        else:
            self.flush_list()
            self.title = self.title or (one_line(text) if names[:1] == ["Title"] else None)
            self._builder.add("paragraph", text)
        for box in paragraph.iter(_TEXT_BOX):
            if depth < _MAX_NESTING and not any(ancestor.tag == _FALLBACK for ancestor in box.iterancestors()):
                self.walk(box, depth + 1)


def _is_contents(element: Any) -> bool:
    """A content control that holds the table of contents."""
    gallery = element.find(f"{qn('w:sdtPr')}/{qn('w:docPartObj')}/{qn('w:docPartGallery')}")
    return gallery is not None and gallery.get(_VALUE) == _CONTENTS_GALLERY


def _chain(style: BaseStyle | None) -> Iterator[BaseStyle]:
    """The style and those it is based on."""
    for _ in range(10):
        if style is None:
            return
        yield style
        style = getattr(style, "base_style", None)


def _property(paragraph: Any, name: str) -> str | None:
    element = paragraph.find(f"{qn('w:pPr')}/{qn(name)}")
    return None if element is None else element.get(_VALUE)


def _heading_level(paragraph: Any, style: BaseStyle | None, names: list[str]) -> int:
    """1..9, or 0 for body text: from the style's name, else from the outline level of paragraph or style."""
    for name in names:
        match = _HEADING_STYLE.match(name)
        if match:
            return int(match[1])
    outlines = [_property(paragraph, "w:outlineLvl"), *(_property(each.element, "w:outlineLvl") for each in _chain(style))]
    first = next((outline for outline in outlines if outline is not None), "9")
    return int(first) + 1 if first in "012345678" else 0


def _is_list_item(paragraph: Any, style: BaseStyle | None) -> bool:
    numbering = f"{qn('w:pPr')}/{qn('w:numPr')}/{qn('w:numId')}"
    found = (element.find(numbering) for element in (paragraph, *(each.element for each in _chain(style))))
    number = next((each for each in found if each is not None), None)
    # Number 0 takes a paragraph out of the list its style puts it in.
    return number is not None and number.get(_VALUE) != "0"


def _list_item(paragraph: Any, text: str) -> Iterator[str]:
    level = paragraph.find(f"{qn('w:pPr')}/{qn('w:numPr')}/{qn('w:ilvl')}")
    value = "0" if level is None else level.get(_VALUE, "0")
    if text.strip():
        yield "  " * (int(value) if value in "012345678" else 0) + "- " + " ".join(text.split())


def _paragraph_text(paragraph: Any) -> str:
    parts: list[str] = []
    stack = [paragraph]
    while stack:
        element = stack.pop()
        if element.tag in _TEXTS:
            parts.append(element.text or "")
        elif element.tag in _CHARACTERS:
            parts.append(_CHARACTERS[element.tag])
        elif element is paragraph or element.tag not in _SKIPPED:
            stack.extend(reversed(element))
    return "".join(parts)


def _table_lines(table: Any) -> Iterator[str]:
    """A line per row; tables inside a cell are flattened into it."""
    for row in table.iter(_TR):
        if next(row.iterancestors(_TBL)) is not table:
            continue
        cells = (cell for cell in row.iter(_TC) if next(cell.iterancestors(_TBL)) is table)
        line = " | ".join(one_line(" ".join(_paragraph_text(p) for p in cell.iter(_P))) for cell in cells)
        if line.strip(" |"):
            yield line
