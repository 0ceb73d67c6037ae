"""FAQs as JSON and CSV files: out, and in again as they were."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from agenthub.core.errors import InvalidInput, MalformedInput
from agenthub.core.json import dumps, loads_untrusted
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.faqs import MAX_ANSWER, FaqText
from agenthub.services.knowledge.faq_management.schemas import MAX_ITEMS, FaqItem, FaqItems
from agenthub.web.reading import UploadedFile, validate

COLUMNS: Final = ("question", "answer", "category", "priority", "metadata")
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")
_MAX_FIELD: Final = max(MAX_ANSWER, 20_000) * 2
_WHOLE: Final = re.compile(r"[0-9]{1,9}\Z")


def json_pieces(documents: Iterable[Document]) -> Iterator[bytes]:
    """The FAQs as one JSON object, piece by piece, in the form that an import takes."""
    opening = b'{"items":['
    for document in documents:
        yield opening + dumps(_said(FaqText.of(document)))
        opening = b",\n"
    yield (b"" if opening == b",\n" else opening) + b"]}\n"


def csv_pieces(documents: Iterable[Document]) -> Iterator[bytes]:
    """The FAQs as CSV with a head line, a line each.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front, which an import takes away again.
    """
    yield _line(COLUMNS)
    for document in documents:
        faq = FaqText.of(document)
        metadata = dumps(faq.metadata).decode() if faq.metadata else ""
        yield _line([faq.question, faq.answer, faq.category or "", str(faq.priority), metadata])


def _line(cells: Sequence[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow(["'" + cell if _FORMULA.match(cell) else cell for cell in cells])
    return out.getvalue().encode()


def _said(faq: FaqText) -> dict[str, Any]:
    return {name: getattr(faq, name) for name in COLUMNS}


def read_file(file: UploadedFile) -> tuple[FaqItem, ...]:
    """The FAQs of an uploaded file: JSON where its name or type says so, else CSV.

    Raises: MalformedInput when it can't be read; InvalidInput naming `items[i].field`.
    """
    if file.filename.lower().endswith(".json") or file.content_type.startswith("application/json"):
        value = loads_untrusted(file.data)
        rows: Any = value.get("items") if isinstance(value, dict) else value
    else:
        rows = list(_rows(file.data))
    taken = validate(FaqItems, {"items": rows})
    assert isinstance(taken, FaqItems)
    return taken.items


def _rows(data: bytes) -> Iterator[dict[str, Any]]:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        head = [name.strip().lower() for name in next(reader, [])]
        if not {"question", "answer"} <= set(head) or not set(head) <= set(COLUMNS) or len(set(head)) < len(head):
            raise MalformedInput(f"the first line names the columns: question and answer, and perhaps {', '.join(COLUMNS[2:])}")
        for number, cells in enumerate(line for line in reader if line):
            if number >= MAX_ITEMS:
                raise InvalidInput(f"at most {MAX_ITEMS} FAQs at once", field="files")
            yield _row(head, cells, number)
    except UnicodeDecodeError as error:
        raise MalformedInput("the file is not UTF-8") from error
    except csv.Error as error:
        raise MalformedInput(f"the file is not CSV: {error}") from error


def _row(head: Sequence[str], cells: Sequence[str], number: int) -> dict[str, Any]:
    if len(cells) != len(head):
        raise InvalidInput(f"has {len(cells)} cells instead of {len(head)}", field=f"items[{number}]")
    if any(len(cell) > _MAX_FIELD for cell in cells):
        raise InvalidInput("has a cell that is too long", field=f"items[{number}]")
    texts = {name: cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell for name, cell in zip(head, cells, strict=True)}
    row: dict[str, Any] = {name: text for name, text in texts.items() if text or name in ("question", "answer")}
    if "priority" in row and _WHOLE.match(row["priority"]):
        row["priority"] = int(row["priority"])
    if "metadata" in row:
        try:
            row["metadata"] = loads_untrusted(row["metadata"].encode("utf-8", "replace"))
        except MalformedInput as error:
            raise InvalidInput("must be JSON", field=f"items[{number}].metadata") from error
    return row
