"""CSV and its relatives: a block per record, each value with its column's name."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.characters import one_line
from agenthub.rag.parsing.decoding import decode_text
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_DELIMITERS: Final = (",", ";", "\t", "|")
_SAMPLE_ROWS: Final = 50
_SAMPLE_CHARACTERS: Final = 100_000


def read_delimited(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The records of a CSV, TSV or semicolon-separated file in any encoding; empty values are left out.

    A field may be as long as `csv.field_size_limit()` allows: 131,072 characters unless the process raised it.

    Raises: UnsupportedDocument when it is binary or no table; PayloadTooLarge when over the limits.
    """
    text, encoding = decode_text(data)
    delimiter = sniff_delimiter(text[:_SAMPLE_CHARACTERS])
    builder = DocumentBuilder(limits)
    columns: Sequence[str] | None = None
    try:
        for number, row in enumerate(_rows(text, delimiter), start=1):
            if columns is None:
                columns = header_of(row)
                if columns:
                    continue
            builder.add("row", record(columns, row), row=number)
    except csv.Error as error:
        if "field larger than" in str(error):
            raise PayloadTooLarge("a field of the table is too long") from error
        raise UnsupportedDocument(f"the file is no valid table: {error}") from error
    if columns and not builder.block_count:
        builder.add("row", " | ".join(columns), row=1)
    metadata = {"encoding": encoding, "columns": [one_line(name)[:200] for name in columns[:200]] if columns else []}
    return builder.finish(MEDIA_TYPES[Kind.DELIMITED], metadata=metadata)


def sniff_delimiter(sample: str) -> str:
    """The delimiter that cuts the first lines into the same number of columns most often; a comma when none does.

    `csv.Sniffer` is not used: its regular expressions take quadratic time on hostile input.
    """
    lines = sample.splitlines()[:_SAMPLE_ROWS]
    return max(_DELIMITERS, key=lambda delimiter: _regularity(lines, delimiter))


def _regularity(lines: list[str], delimiter: str) -> float:
    try:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
    except csv.Error:
        return 0.0
    wide = {width: count for width, count in widths.items() if width > 1}
    if not wide:
        return 0.0
    width, count = max(wide.items(), key=lambda item: (item[1], item[0]))
    return count / sum(widths.values()) + min(width, 50) / 1000


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    # csv wants whole lines with their ends, so that quoted line breaks survive.
    lines = text.replace("\x00", "").splitlines(keepends=True)
    return (row for row in csv.reader(lines, delimiter=delimiter) if any(value.strip() for value in row))


def header_of(row: Sequence[str]) -> Sequence[str] | None:
    """The column names if the row looks like a header: several different, short, non-numeric names; else an empty list."""
    names = [one_line(value) for value in row]
    filled = [name for name in names if name]
    plausible = (
        len(names) > 1
        and len(filled) * 2 > len(names)
        and len(set(filled)) == len(filled)
        and all(len(name) <= 80 and not _is_number(name) for name in filled)
    )
    return [name or f"column {position}" for position, name in enumerate(names, start=1)] if plausible else []


def record(columns: Sequence[str] | None, values: Sequence[str]) -> str:
    """One line per filled value, `column: value`; without columns the values in one line."""
    if not columns:
        return " | ".join(value.strip() for value in values if value.strip())
    named = enumerate(values)
    pairs = ((columns[i] if i < len(columns) else f"column {i + 1}", value.strip()) for i, value in islice(named, None))
    return "\n".join(f"{name}: {value}" for name, value in pairs if value)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace(",", "").replace("-", "", 1).replace("%", "").isdigit()
