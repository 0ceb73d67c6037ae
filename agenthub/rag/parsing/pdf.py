"""PDF: the text layer by PDFium, page by page; the outline as headings.

PDFium and not pypdf: on the ASVS standard pypdf glues most words together ("ApplicationSecurityVerification") and takes
2.5 s where PDFium takes 0.2 s. PDFium is native code, so it runs in the child process of `sandbox` only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Final

import pypdfium2 as pdfium
from pypdfium2 import raw

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.archives import DAMAGED
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.pdf_layout import Line, OutlineEntry, PageLines, add_pages

# An incomplete download or upload ends anywhere; PDFium would quietly read what is left of it.
_END_WITHIN: Final = 4096
_MAX_OUTLINE: Final = 20_000
_MAX_OUTLINE_DEPTH: Final = 9
# Fonts without a Unicode table come out as private-use or replacement characters.
_UNREADABLE_SHARE: Final = 0.3
# PDFium's marks for a hyphen it takes for one of line division.
_HYPHENS: Final = {0x02: "\u00ad", 0xFFFE: "\u00ad"}
_JUNK_TITLES: Final = ("microsoft word -", "microsoft powerpoint -", "untitled", "slide 1", "powerpoint presentation")


def read_pdf(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The paragraphs of all pages, without page headers, footers, page numbers and tables of contents.

    Raises: UnsupportedDocument when it is encrypted, damaged, incomplete, or scanned without a text layer; PayloadTooLarge
    when over the limits.
    """
    if b"%%EOF" not in data[-_END_WITHIN:]:
        raise UnsupportedDocument(f"{DAMAGED}: the end of the PDF is missing")
    document = _open(data)
    page_count = len(document)
    if page_count > limits.pages:
        raise PayloadTooLarge(f"the PDF has {page_count:,} pages; the limit is {limits.pages:,}")
    pages = _read_pages(document, limits)
    _require_text(pages)
    builder = DocumentBuilder(limits)
    add_pages(builder, pages, list(_outline(document)))
    blank = sum(not page.lines for page in pages)
    title = document.get_metadata_value("Title")
    return builder.finish(
        MEDIA_TYPES[Kind.PDF],
        title=None if title.lower().startswith(_JUNK_TITLES) else title,
        language=_language(document),
        page_count=page_count,
        metadata={"pages_without_text": blank} if blank else {},
    )


def _open(data: bytes) -> pdfium.PdfDocument:
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise UnsupportedDocument("the PDF is encrypted: remove its password and upload it again") from error
        raise UnsupportedDocument(DAMAGED) from error
    if not len(document):
        raise UnsupportedDocument(f"{DAMAGED}: the PDF has no pages")
    return document


def _require_text(pages: list[PageLines]) -> None:
    text = "".join(line.text for page in pages for line in page.lines)
    letters = sum(character.isalnum() for character in text)
    if not letters:
        count = f"{len(pages)} page{'s' if len(pages) != 1 else ''}"
        raise UnsupportedDocument(f"the PDF has {count} and no text: it looks like a scan, and text recognition (OCR) is not available")
    unreadable = sum("\ue000" <= character <= "\uf8ff" or character == "\ufffd" or character < " " for character in text)
    if unreadable > _UNREADABLE_SHARE * len(text):
        raise UnsupportedDocument("the text of the PDF can't be decoded: its fonts do not say which characters they show")


def _read_pages(document: pdfium.PdfDocument, limits: ParsingLimits) -> list[PageLines]:
    pages: list[PageLines] = []
    characters = 0
    for index in range(len(document)):
        page = _page_lines(document, index)
        characters += sum(len(line.text) for line in page.lines)
        if characters > limits.text_characters:
            raise PayloadTooLarge(f"the document holds more than {limits.text_characters:,} characters of text")
        pages.append(page)
    return pages


def _page_lines(document: pdfium.PdfDocument, index: int) -> PageLines:
    try:
        page = document[index]
        text_page = page.get_textpage()
    except pdfium.PdfiumError as error:
        raise UnsupportedDocument(f"{DAMAGED}: page {index + 1} can't be read") from error
    try:
        return PageLines(index + 1, page.get_height(), tuple(_lines(text_page)))
    finally:
        text_page.close()
        page.close()


def _lines(text_page: pdfium.PdfTextPage) -> Iterator[Line]:
    """PDFium ends each line with CR LF and puts in the blanks that a PDF only shows as gaps."""
    position = 0
    for piece in _characters(text_page).split("\n"):
        line = _line(text_page, piece, position)
        if line is not None:
            yield line
        position += len(piece) + 1


def _characters(text_page: pdfium.PdfTextPage) -> str:
    """The page's text with exactly one character for each of PDFium's, so that positions in it are PDFium's positions."""
    count = text_page.count_chars()
    text: str = text_page.get_text_bounded() if count > 0 else ""
    if len(text) == count:
        return text
    codes = (raw.FPDFText_GetUnicode(text_page.raw, index) for index in range(max(count, 0)))
    return "".join(chr(code) if code <= 0x10FFFF else "\ufffd" for code in codes)


def _line(text_page: pdfium.PdfTextPage, piece: str, position: int) -> Line | None:
    """The line with its place on the page: the boxes of its first and last letters say where and how large it is."""
    text = piece.translate(_HYPHENS).rstrip("\r")
    visible = [offset for offset, character in enumerate(text) if not character.isspace() and character != "\x00"]
    if not visible:
        return None
    sized = next((offset for offset in visible if text[offset].isalnum()), visible[0])
    first, last, letter = (_box(text_page, position + offset) for offset in (visible[0], visible[-1], sized))
    return Line(text.replace("\x00", "").strip(), left=first[0], right=last[2], bottom=letter[1], top=letter[3])


def _box(text_page: pdfium.PdfTextPage, index: int) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a character in points; zeros where PDFium has none."""
    rectangle = raw.FS_RECTF()
    if not raw.FPDFText_GetLooseCharBox(text_page.raw, index, ctypes.byref(rectangle)):
        return (0.0, 0.0, 0.0, 0.0)
    return (rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)


def _outline(document: pdfium.PdfDocument) -> Iterator[OutlineEntry]:
    for count, bookmark in enumerate(document.get_toc(max_depth=_MAX_OUTLINE_DEPTH)):
        if count >= _MAX_OUTLINE:
            return
        destination = bookmark.get_dest()
        index = destination.get_index() if destination is not None else None
        if index is not None:
            yield OutlineEntry(bookmark.get_title(), bookmark.level + 1, index + 1)


def _language(document: pdfium.PdfDocument) -> str | None:
    buffer = (ctypes.c_ushort * 64)()
    length = raw.FPDFCatalog_GetLanguage(document, buffer, ctypes.sizeof(buffer))
    return bytes(buffer)[: max(length - 2, 0)].decode("utf-16-le", errors="ignore") or None if 2 < length <= 128 else None
