"""Zip-based documents are checked before any parser opens them (RELIABILITY.md D2-11)."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable

import pytest

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.archives import inspect_archive
from agenthub.rag.parsing.kinds import Kind
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.sandbox import parse_safely

LIMITS = ParsingLimits()
Rezip = Callable[..., bytes]
LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><w:document>&c;</w:document>'
)


def refused(data: bytes, reason: str, error: type[Exception] = UnsupportedDocument) -> None:
    with pytest.raises(error, match=reason):
        inspect_archive(data, LIMITS)


def test_true_documents_pass(small_docx: bytes, small_xlsx: bytes, small_pptx: bytes) -> None:
    kinds = [inspect_archive(data, LIMITS) for data in (small_docx, small_xlsx, small_pptx)]
    assert kinds == [Kind.WORD, Kind.SPREADSHEET, Kind.SLIDES]


def test_too_many_parts(small_docx: bytes, rezipped: Rezip) -> None:
    refused(rezipped(small_docx, {f"word/extra{n}.txt": b"x" for n in range(1000)}), "more than 1,000 parts", PayloadTooLarge)


def test_a_part_that_unfolds_a_thousandfold(small_docx: bytes, rezipped: Rezip) -> None:
    refused(rezipped(small_docx, {"word/media/image.bmp": b"\0" * 5_000_000}), "more than 100:1", PayloadTooLarge)


def test_more_than_two_hundred_megabytes_in_all(small_docx: bytes, rezipped: Rezip) -> None:
    noise = random.Random(5).randbytes(40_000)
    sparse = b"".join(noise[n % 39_000 : n % 39_000 + 400] + b"\0" * 20_000 for n in range(2_600))
    parts = {f"word/media/{n}.bin": sparse for n in range(4)}
    refused(rezipped(small_docx, parts), "more than 200,000,000 bytes", PayloadTooLarge)


def test_declared_sizes_that_lie(small_docx: bytes, rezipped: Rezip) -> None:
    data = bytearray(rezipped(small_docx, {"word/media/a.bin": b"\0" * 900_000}))
    true_size = struct.pack("<I", 900_000)
    while (at := data.find(true_size)) >= 0:
        data[at : at + 4] = struct.pack("<I", 50)
    refused(bytes(data), "damaged")


@pytest.mark.parametrize("name", ["../evil.xml", "/etc/passwd", "word/../../evil", "..\\evil", "C:/evil"])
def test_unsafe_names(name: str, small_docx: bytes, rezipped: Rezip) -> None:
    refused(rezipped(small_docx, {name: b"x"}), "unsafe")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_names(small_docx: bytes) -> None:
    buffer = io.BytesIO(small_docx)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("word/document.xml", b"<other/>")
    refused(buffer.getvalue(), "repeated names")


@pytest.mark.parametrize("name", ["word/inner.zip", "word/embeddings/data.zip", "word/media/image.png", "xl/embeddings/../a.xlsx"])
def test_archives_in_the_archive(name: str, small_docx: bytes, rezipped: Rezip) -> None:
    refused(rezipped(small_docx, {name: small_docx}), "archive inside the archive|unsafe")


def test_the_workbook_of_a_chart_may_stay(small_pptx: bytes, small_xlsx: bytes, rezipped: Rezip) -> None:
    assert inspect_archive(rezipped(small_pptx, {"ppt/embeddings/Microsoft_Excel_Sheet1.xlsx": small_xlsx}), LIMITS) is Kind.SLIDES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_xml_with_a_doctype_in_any_encoding(encoding: str, small_docx: bytes, rezipped: Rezip) -> None:
    xml = LAUGHS.decode().replace('version="1.0"', f'version="1.0" encoding="{encoding[:6]}"').encode(encoding)
    refused(rezipped(small_docx, {"word/document.xml": xml}), "DOCTYPE|not well-formed")


@pytest.mark.parametrize(
    ("kind", "part"),
    [("docx", "word/styles.xml"), ("xlsx", "xl/worksheets/sheet1.xml"), ("pptx", "ppt/presentation.xml"), ("docx", "odd.bin")],
)
def test_entity_bombs_and_outside_entities_in_any_part(
    kind: str, part: str, small_docx: bytes, small_xlsx: bytes, small_pptx: bytes, rezipped: Rezip
) -> None:
    data = {"docx": small_docx, "xlsx": small_xlsx, "pptx": small_pptx}[kind]
    outside = b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>'
    for xml in (LAUGHS, outside, b" \n<!DOCTYPE r><r/>"):
        with pytest.raises(UnsupportedDocument, match="DOCTYPE"):
            parse_safely(rezipped(data, {part: xml}), f"bomb.{kind}", None, LIMITS)


@pytest.mark.parametrize("encoding", ["utf-7", "ibm037", "no-such-code"])
def test_xml_in_an_encoding_that_hides_its_markup(encoding: str, small_docx: bytes, rezipped: Rezip) -> None:
    xml = f'<?xml version="1.0" encoding="{encoding}"?>+ADwAIQ-DOCTYPE r+AD4-<r/>'.encode()
    refused(rezipped(small_docx, {"word/document.xml": xml}), "damaged")


def test_an_archive_that_is_no_document() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(buffer.getvalue(), "a zip archive, not a document")
    refused(b"PK\x03\x04 and nothing", "damaged")


def test_an_encrypted_entry(small_docx: bytes) -> None:
    data = bytearray(small_docx)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(signature) + flags] |= 1
    refused(bytes(data), "encrypted")
