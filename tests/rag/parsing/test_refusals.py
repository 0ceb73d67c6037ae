"""What can't be read is refused with a reason its owner understands."""

from __future__ import annotations

import io
from collections.abc import Callable

import pypdf
import pytest

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document
from agenthub.rag.parsing.sandbox import parse_safely

LIMITS = ParsingLimits()
PAGE = [(10, 700, "hello world")]
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def refusal(data: bytes, name: str, declared_type: str | None = None) -> str:
    with pytest.raises(UnsupportedDocument) as caught:
        read_document(data, name, declared_type, LIMITS)
    return caught.value.message


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "empty.txt", "the file is empty"),
        (b" \r\n\t", "blank.md", "the file is empty"),
        (b"...\n---\n", "dots.txt", "holds no text"),
        (b"<html><body><script>x()</script></body></html>", "empty.html", "holds no text"),
        (b"{}", "empty.json", "holds no text"),
        (b"{'a': 1}", "bad.json", "not valid JSON: .* line 1"),
        (b"plain words", "fake.pdf", r"the name says \.pdf, but the content is something else"),
        (b"plain words", "fake.docx", r"the name says \.docx, but the content is something else"),
        (b"MZ\x90\x00\x03\x00\x00\x00\x04\x00", "program.txt", "a Windows program"),
        (b"MZ\x90\x00\x03", "program.exe", r"a \.exe file is a program"),
        (b"\x7fELF\x02\x01\x01", "notes.md", "a program"),
        (b"\x89PNG\r\n\x1a\n\x00", "picture.txt", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "picture.pdf", "a JPEG image"),
        (b"\x1f\x8b\x08\x00", "data.csv", "a gzip archive"),
        (b"{\\rtf1 hello}", "letter.txt", "an RTF file"),
        (COMPOUND + b"\x00" * 600, "old.docx", "an old Office file"),
        (COMPOUND + b"\x00" * 600 + "EncryptedPackage".encode("utf-16-le"), "secret.docx", "the file is encrypted"),
        (b"\x00\x01\x02\x03" * 100, "data.txt", "binary data of an unknown kind"),
        (b"%PDF-1.7\nno more", "short.pdf", "the end of the PDF is missing"),
        (b"%PDF-1.7\nnothing\n%%EOF", "hollow.pdf", "damaged"),
        (b"anything", "song.mp3", r"a \.mp3 file is sound or video"),
    ],
)
def test_refused_with_the_reason(data: bytes, name: str, reason: str) -> None:
    with pytest.raises(UnsupportedDocument, match=reason):
        read_document(data, name, None, LIMITS)


def test_a_true_document_under_a_false_name_is_refused(
    make_pdf: Callable[..., bytes], small_docx: bytes, small_xlsx: bytes, document_bytes: Callable[[str], bytes]
) -> None:
    assert "the content is a PDF" in refusal(make_pdf([PAGE]), "report.txt")
    assert "the content is a .docx document" in refusal(small_docx, "table.xlsx")
    assert "the content is a .xlsx document" in refusal(small_xlsx, "deck.pptx")
    assert "the content is a zip archive" in refusal(document_bytes("asvs-5.0.0-en.docx"), "page.html")
    assert "wrong type" in refusal(b"hello", "upload", "application/pdf")


def test_documents_without_an_extension_are_known_by_content(make_pdf: Callable[..., bytes], small_docx: bytes, small_xlsx: bytes) -> None:
    types = [read_document(data, "upload", None, LIMITS).media_type for data in (make_pdf([PAGE]), small_docx, small_xlsx)]
    assert [each.rpartition(".")[2] for each in types] == ["application/pdf", "document", "sheet"]


def encrypted_pdf(data: bytes, *, user: str, owner: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(user, owner, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_encrypted_pdf_is_refused_and_a_merely_restricted_one_read(make_pdf: Callable[..., bytes]) -> None:
    assert "the PDF is encrypted" in refusal(encrypted_pdf(make_pdf([PAGE]), user="secret", owner="boss"), "secret.pdf")
    restricted = encrypted_pdf(make_pdf([PAGE]), user="", owner="boss")
    assert read_document(restricted, "restricted.pdf", None, LIMITS).blocks[0].text == "hello world"


@pytest.mark.parametrize("name", ["asvs-5.0.0-en.pdf", "asvs-5.0.0-en.docx", "two-sheets.xlsx"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated_documents_are_refused(name: str, share: float, document_bytes: Callable[[str], bytes]) -> None:
    data = document_bytes(name)
    with pytest.raises(UnsupportedDocument, match="damaged or incomplete"):
        parse_safely(data[: int(len(data) * share)], name, None, LIMITS)


def test_pdf_with_a_missing_page_is_refused_not_read_in_part(make_pdf: Callable[..., bytes]) -> None:
    assert "page 2 can't be read" in refusal(make_pdf([PAGE], count=3, kids="5 0 R 99 0 R 98 0 R"), "torn.pdf")


def test_pdf_of_ten_thousand_pages_is_too_large(make_pdf: Callable[..., bytes]) -> None:
    with pytest.raises(PayloadTooLarge, match="10,000 pages; the limit is 5,000"):
        read_document(make_pdf([PAGE], kids="5 0 R " * 10_000, count=10_000), "fork.pdf", None, LIMITS)


def test_pdf_whose_page_tree_forks_without_end_ends(assembled_pdf: Callable[..., bytes]) -> None:
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    objects += [f"<< /Type /Pages /Kids [{' '.join([f'{n + 1} 0 R'] * 10)}] /Count 4000 >>".encode() for n in range(2, 14)]
    objects += [b"<< /Type /Page /MediaBox [0 0 595 842] >>"]
    with pytest.raises(UnsupportedDocument):
        parse_safely(assembled_pdf(objects), "fork.pdf", None, LIMITS)


def test_pdf_with_undecodable_fonts_is_refused(make_pdf: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.rag.parsing.pdf._characters", lambda page: "\ue001\ue002\ue003 a")
    assert "can't be decoded" in refusal(make_pdf([PAGE]), "glyphs.pdf")


def test_hostile_names_and_types_are_only_names() -> None:
    for name in ("../../etc/passwd.txt", "a\x00b.txt", "\ud800.txt", "x" * 10_000 + ".txt", "..", "", "C:\\a\\b.TXT", "a.txt\n"):
        assert read_document(b"words", name, "\ud800/\x00", LIMITS).media_type == "text/plain"
    assert parse_safely(b"<p>words", "\ud800\x00.html", "\ud800", LIMITS).blocks[0].text == "words"
