"""Real documents of ../shared/data, and documents made to measure."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from pptx.util import Inches

from agenthub.rag.parsing.limits import ParsingLimits

DOCUMENTS = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "documents"


@pytest.fixture
def limits() -> ParsingLimits:
    return ParsingLimits()


@pytest.fixture(scope="session")
def document_bytes() -> Callable[[str], bytes]:
    """The bytes of a real document by its file name."""
    if not DOCUMENTS.is_dir():
        pytest.fail(f"the shared documents are missing: {DOCUMENTS} does not exist; check out ../shared beside the project")
    return lambda name: (DOCUMENTS / name).read_bytes()


@pytest.fixture(scope="session")
def make_pdf() -> Callable[..., bytes]:
    return build_pdf


def build_pdf(
    pages: list[list[tuple[int, int, str]]], *, trailer_extra: str = "", kids: str | None = None, count: int | None = None
) -> bytes:
    """A PDF of pages of (font size, height above the foot, text); `kids` and `count` replace the honest page tree."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    numbers = []
    for page in pages:
        shown = "\n".join(f"BT /F1 {size} Tf 72 {height} Td ({text}) Tj ET" for size, height, text in page)
        objects.append(f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream")
        content = len(objects)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {content} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        numbers.append(len(objects))
    listed = kids if kids is not None else " ".join(f"{number} 0 R" for number in numbers)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(pages) if count is None else count} >>"
    return assemble_pdf([each.encode("latin-1") for each in objects], trailer_extra)


def assemble_pdf(objects: list[bytes], trailer_extra: str = "") -> bytes:
    """A PDF file of the given objects, the first being the catalog, with a right cross-reference table."""
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer_extra} >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


@pytest.fixture(scope="session")
def assembled_pdf() -> Callable[..., bytes]:
    return assemble_pdf


@pytest.fixture(scope="session")
def small_docx() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.add_heading("Travel", 1)
    document.add_paragraph("Book trains two weeks ahead.")
    document.add_heading("Hotels", 2)
    document.add_paragraph("Up to 120 euros a night", style="List Bullet")
    document.add_paragraph("Breakfast is included", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip((c for row in table.rows for c in row.cells), ("City", "Limit", "Paris", "150"), strict=True):
        cell.text = text
    document.add_heading("Expenses", 1)
    document.add_paragraph("Send receipts within a month.")
    return _saved(document)


@pytest.fixture(scope="session")
def small_xlsx() -> bytes:
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.title = "Prices"
    for row in (("item", "price", "share"), ("apple", 1.5, 0.25), ("pear", 2, None)):
        sheet.append(row)
    sheet["C2"].number_format = "0%"
    workbook.create_sheet("Empty")
    workbook.create_sheet("Secret").sheet_state = "hidden"
    workbook["Secret"].append(("hidden", "row"))
    return _saved(workbook)


@pytest.fixture(scope="session")
def small_pptx() -> bytes:
    presentation = pptx.Presentation()
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Roadmap"
    first.placeholders[1].text_frame.text = "Ship the beta"
    first.placeholders[1].text_frame.add_paragraph().text = "Hire two engineers"
    second = presentation.slides.add_slide(presentation.slide_layouts[5])
    second.shapes.title.text = "Budget"
    table = second.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for (row, column), text in {(0, 0): "Team", (0, 1): "Cost", (1, 0): "Search", (1, 1): "10"}.items():
        table.cell(row, column).text = text
    second.notes_slide.notes_text_frame.text = "Mention the grant."
    return _saved(presentation)


def _saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


@pytest.fixture(scope="session")
def rezipped() -> Callable[..., bytes]:
    return rezip


def rezip(data: bytes, changes: Mapping[str, bytes], *, drop: tuple[str, ...] = ()) -> bytes:
    """The archive with parts replaced or added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in [*old.namelist(), *(name for name in changes if name not in old.namelist())]:
            if name not in drop:
                new.writestr(name, changes[name] if name in changes else old.read(name))
    return buffer.getvalue()
