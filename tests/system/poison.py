"""Hostile and broken files: what ends as failed or in quarantine, with a reason (RELIABILITY.md T20)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib

import docx
import pypdf

from tests.rag.parsing.conftest import DOCUMENTS, assemble_pdf, build_pdf
from tests.rag.parsing.test_unpacking import encrypted, overlapping, tarred, zipped

COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600


def letter(text: str = "A letter.") -> bytes:
    document, buffer = docx.Document(), io.BytesIO()
    document.add_paragraph(text)
    document.save(buffer)
    return buffer.getvalue()


def _with_part(data: bytes, name: str, content: bytes) -> bytes:
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _pdf_bomb() -> bytes:
    bomb = zlib.compress(zlib.compress(b" " * 300_000_000, 9), 9)
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n" % len(bomb) + bomb + b"\nendstream"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>"
    return assemble_pdf([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, stream])


def documents() -> dict[str, bytes]:
    """Documents that must end as failed or in quarantine."""
    return {
        "zip-bomb.docx": _with_part(letter(), "word/media/image.bmp", b"\0" * 20_000_000),
        "many-parts.docx": _many_parts(),
        "nested.docx": _with_part(letter(), "word/embeddings/inner.zip", letter()),
        "pdf-bomb.pdf": _pdf_bomb(),
        "ten-thousand-pages.pdf": build_pdf([[(10, 700, "page")]], kids=" ".join(["5 0 R"] * 10_000), count=10_000),
        "truncated.docx": letter()[:2000],
        "truncated.pdf": (DOCUMENTS / "asvs-5.0.0-en.pdf").read_bytes()[:50_000],
        "encrypted.pdf": _encrypted_pdf(),
        "encrypted.docx": COMPOUND + "EncryptedPackage".encode("utf-16-le"),
        "scan.pdf": (DOCUMENTS / "scanned-no-text.pdf").read_bytes(),
        "deep.docx": _with_body(b"<w:x xmlns:w='urn:w'>" * 50_000 + b"</w:x>" * 50_000),
        "laughs.docx": _with_body(_laughs()),
        "deep.md": b">" * 100_000 + b" text",
        "deep.jsonl": b'{"a":' * 50_000,
        "deep.json": b"[" * 100_000 + b"]" * 100_000,
        "empty.txt": b"",
        "empty.pdf": b"",
        "blank.md": b"  \n\n ",
        "picture.txt": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        "program.pdf": b"\x7fELF\x02\x01\x01" + b"\0" * 500,
        "wrong-type.docx": b"plain words",
    }


def _many_parts() -> bytes:
    buffer = io.BytesIO(letter())
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(1_100):
            archive.writestr(f"word/extra{number}.txt", b"x")
    return buffer.getvalue()


def _with_body(xml: bytes) -> bytes:
    """A letter whose text is that XML."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(letter())) as whole, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as changed:
        for name in whole.namelist():
            changed.writestr(name, xml if name == "word/document.xml" else whole.read(name))
    return out.getvalue()


def _laughs() -> bytes:
    """Entities that unfold to a thousand million laughs."""
    entities = "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY a0 "laugh">{entities}]><w>&a9;</w>'.encode()


def _encrypted_pdf() -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(build_pdf([[(10, 700, "secret")]])))
    writer.encrypt("user", "owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def archives() -> dict[str, bytes]:
    """Archives of files of which nothing comes in."""
    tar = tarred({"zeros.txt": b"\0" * 150_000_000})
    return {
        "bomb.zip": zipped({"zeros.txt": b"\0" * 90_000_000}),
        "overlapping.zip": overlapping(),
        "bomb.tar.gz": gzip.compress(tar),
        "bomb.tar.bz2": bz2.compress(tar),
        "bomb.tar.xz": lzma.compress(tar),
        "twice.gz": gzip.compress(gzip.compress(b"\0" * 100_000_000)),
        "many.zip": zipped({f"{number}.txt": b"x" for number in range(1_001)}),
        "nested.zip": zipped({"inner.zip": zipped({"inner.zip": zipped({"a.txt": b"text"})})}),
        "encrypted.zip": encrypted(),
        "truncated.zip": zipped({"a.txt": b"text " * 10_000})[:200],
        "truncated.tar.gz": gzip.compress(tarred({"a.txt": bytes(range(256)) * 4_000}))[:-2_000],
        "wrong.zip": zipped({"program.pdf": b"\x7fELF\x02\x01\x01" + b"\0" * 500, "empty.txt": b""}),
    }
