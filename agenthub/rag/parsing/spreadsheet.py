"""XLSX: a block per row, each value with its column's name; the sheet's name as heading."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from openpyxl import load_workbook

from agenthub.rag.parsing.characters import one_line
from agenthub.rag.parsing.delimited import header_of, record
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_MAX_COLUMNS: Final = 1_000
# Rows above the header are the sheet's title and notes; a header further down is not looked for.
_HEADER_WITHIN: Final = 10
_MIDNIGHT: Final = dt.time()


def read_spreadsheet(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The filled rows of all visible sheets, formulas by their last computed value, at most 1,000 columns.

    Raises: UnsupportedDocument when all sheets are empty; PayloadTooLarge when over the limits. Damaged files raise whatever
    openpyxl raises.
    """
    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    builder = DocumentBuilder(limits)
    sheets = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
    for sheet in sheets:
        builder.sheet = one_line(str(sheet.title))
        builder.leave_headings()
        _add_sheet(builder, _filled_rows(sheet))
    properties = workbook.properties
    metadata = {"sheets": [one_line(str(sheet.title)) for sheet in sheets]}
    return builder.finish(MEDIA_TYPES[Kind.SPREADSHEET], title=properties.title, language=properties.language, metadata=metadata)


def _add_sheet(builder: DocumentBuilder, rows: Iterator[tuple[int, list[str]]]) -> None:
    """The heading is added with the first row: an empty sheet leaves nothing."""
    columns: Sequence[str] = []
    body = 0
    for position, (number, values) in enumerate(rows):
        if not position:
            builder.heading(builder.sheet or "", 1)
        if not columns and not body and position < _HEADER_WITHIN:
            columns = header_of(values) or []
            if columns:
                header = number, values
                continue
            if sum(bool(value) for value in values) <= 1:
                builder.add("paragraph", record(None, values))
                continue
        body += 1
        builder.add("row", record(columns, values), row=number)
    if columns and not body:
        builder.add("row", record(None, header[1]), row=header[0])


def _filled_rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Row numbers and values of the rows that are not empty."""
    # The size a sheet declares may be wrong or hostile (one cell in row 1,048,576); the rows themselves are walked.
    sheet.reset_dimensions()
    for number, row in enumerate(sheet.iter_rows(), start=1):
        values = [cell_text(cell.value, getattr(cell, "number_format", "")) for cell in row[:_MAX_COLUMNS]]
        while values and not values[-1]:
            values.pop()
        if values:
            yield number, values


def cell_text(value: Any, number_format: str = "") -> str:
    """A cell as its reader sees it: dates without a midnight, whole numbers without a decimal, percentages as such."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == _MIDNIGHT else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (int, float)):
        shown = value * 100 if "%" in (number_format or "") else value
        return f"{shown:.15g}" + ("%" if shown is not value else "")
    return one_line(str(value))
