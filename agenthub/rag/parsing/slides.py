"""PPTX: a page per slide with its title, texts, tables and notes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER

from agenthub.rag.parsing.characters import one_line
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_FURNITURE: Final = frozenset({PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.HEADER, PP_PLACEHOLDER.SLIDE_NUMBER})
_MAX_NESTING: Final = 20


def read_slides(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The slides in order; dates, footers and slide numbers are left out.

    Raises: UnsupportedDocument when there is no text; PayloadTooLarge when over the limits. Damaged files raise whatever
    python-pptx and lxml raise.
    """
    presentation = Presentation(io.BytesIO(data))
    builder = DocumentBuilder(limits)
    slides = list(presentation.slides)
    for number, slide in enumerate(slides, start=1):
        builder.page = number
        builder.leave_headings()
        _add_slide(builder, slide)
    properties = presentation.core_properties
    own_title = "" if properties.title.lower() in ("powerpoint presentation", "untitled") else properties.title
    return builder.finish(MEDIA_TYPES[Kind.SLIDES], title=own_title, language=properties.language, page_count=len(slides))


def _add_slide(builder: DocumentBuilder, slide: Any) -> None:
    title = slide.shapes.title
    if title is not None and title.has_text_frame:
        builder.heading(title.text_frame.text, 1)
    for shape in _shapes(slide.shapes, 0):
        if title is None or shape.shape_id != title.shape_id:
            _add_shape(builder, shape)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        builder.add("notes", slide.notes_slide.notes_text_frame.text)


def _shapes(shapes: Any, depth: int) -> Iterator[Any]:
    """The shapes, those in groups too."""
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _MAX_NESTING:
            yield from _shapes(shape.shapes, depth + 1)
        elif not (shape.is_placeholder and shape.placeholder_format.type in _FURNITURE):
            yield shape


def _add_shape(builder: DocumentBuilder, shape: Any) -> None:
    if getattr(shape, "has_table", False):
        rows = (" | ".join(one_line(cell.text_frame.text) for cell in row.cells) for row in shape.table.rows)
        builder.add("table", "\n".join(row for row in rows if row.strip(" |")))
    elif getattr(shape, "has_chart", False) and shape.chart.has_title and shape.chart.chart_title.has_text_frame:
        builder.add("paragraph", shape.chart.chart_title.text_frame.text)
    elif shape.has_text_frame:
        lines = [(paragraph.level, one_line(paragraph.text)) for paragraph in shape.text_frame.paragraphs]
        lines = [(level, line) for level, line in lines if line]
        if len(lines) > 1:
            builder.add("list", "\n".join("  " * level + "- " + line for level, line in lines))
        elif lines:
            builder.add("paragraph", lines[0][1])
