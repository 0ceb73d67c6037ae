"""Archives of files: what is in them, bounded, whatever they are made to do (RELIABILITY.md D2-10, D2-11)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.unpacking import Entry, is_bundle, unpack

LIMITS = ParsingLimits()
FILES = {"readme.md": b"# Hello", "docs/": b"", "docs/deep/a.txt": b"text a", "docs/b.txt": b"text b" * 1000}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in extra:
            archive.addfile(entry)
    return out.getvalue()


PACKERS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]


@pytest.mark.parametrize("data", [zipped(FILES), zipped(FILES, zipfile.ZIP_STORED), *(pack(tarred(FILES)) for pack in PACKERS)])
def test_every_file_of_every_kind_of_archive_comes_out(data: bytes) -> None:
    assert list(unpack(data, LIMITS)) == [Entry(name, content) for name, content in FILES.items() if not name.endswith("/")]


def test_names_are_made_harmless_and_never_opened() -> None:
    names = ["../../etc/passwd", "/etc/shadow", "..\\..\\windows\\win.ini", "a/./b//c.txt", "..", "nul\x01l.txt"]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    found = [entry.name for entry in unpack(out.getvalue(), LIMITS)]
    assert found == ["etc/passwd", "etc/shadow", "windows/win.ini", "a/b/c.txt", "unnamed", "nul_l.txt"]


def test_links_devices_and_archives_inside_are_left_out_with_the_reason() -> None:
    link, hard, device = tarfile.TarInfo("link"), tarfile.TarInfo("hard"), tarfile.TarInfo("device")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "good.txt"
    device.type = tarfile.CHRTYPE
    found = list(unpack(tarred({"good.txt": b"good", "inner.zip": zipped(FILES)}, link, hard, device), LIMITS))
    assert [(entry.name, entry.data, bool(entry.reason)) for entry in found] == [
        ("good.txt", b"good", False), ("inner.zip", b"", True), ("link", b"", True), ("hard", b"", True), ("device", b"", True)
    ]  # fmt: skip
    symlink = zipfile.ZipInfo("link")
    symlink.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(symlink, "/etc/passwd")
    assert list(unpack(out.getvalue(), LIMITS)) == [Entry("link", b"", "it is a link or a device")]


def test_office_documents_inside_are_files(small_docx: bytes) -> None:
    assert list(unpack(zipped({"handbook.docx": small_docx}), LIMITS)) == [Entry("handbook.docx", small_docx)]


def encrypted() -> bytes:
    data = bytearray(zipped({"secret.txt": b"text"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(mark) + offset
        data[at : at + 2] = struct.pack("<H", 1)
    return bytes(data)


def test_encrypted_files_are_left_out() -> None:
    assert [entry.reason for entry in unpack(encrypted(), LIMITS)] == ["it is encrypted"]


def overlapping() -> bytes:
    """Many directory entries for the same packed bytes."""
    kernel = zipped({"a": b"\x00" * 50_000_000})
    directory = kernel.index(b"PK\x01\x02")
    end = kernel.index(b"PK\x05\x06")
    record = kernel[directory:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 200, 200, len(record) * 200, directory, 0)
    return kernel[:directory] + record * 200 + tail


BOMBS = {
    "one large zero file": zipped({"zeros": b"\x00" * 90_000_000}),
    "overlapping files": overlapping(),
    "zeros in tar.gz": gzip.compress(tarred({"zeros": b"\x00" * 150_000_000})),
    "zeros in tar.bz2": bz2.compress(tarred({"zeros": b"\x00" * 150_000_000})),
    "zeros in tar.xz": lzma.compress(tarred({"zeros": b"\x00" * 150_000_000})),
    "too many files": zipped({str(number): b"x" for number in range(1_001)}),
    "too many files in tar": tarred({str(number): b"x" for number in range(1_001)}),
    "gzip of gzip of zeros": gzip.compress(gzip.compress(b"\x00" * 100_000_000)),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_refused(name: str) -> None:
    largest = 0
    with pytest.raises((PayloadTooLarge, UnsupportedDocument)):
        largest = max(len(entry.data) for entry in unpack(BOMBS[name], LIMITS))
    assert largest == 0


def test_too_many_bytes_in_all_are_refused() -> None:
    noise = random.Random(1).randbytes(1_000_000)
    small = replace(LIMITS, archive_bytes=2_500_000)
    seen = []
    with pytest.raises(PayloadTooLarge):
        seen += [entry.name for entry in unpack(zipped({str(number): noise for number in range(5)}), small)]
    assert len(list(unpack(zipped({"a": noise, "b": noise}), small))) == 2


@pytest.mark.parametrize("pack", [*PACKERS, None])
def test_damage_is_noticed(pack: Callable[[bytes], bytes] | None) -> None:
    files = {"noise.txt": random.Random(2).randbytes(100_000), "more.txt": b"more" * 5000}
    data = pack(tarred(files)) if pack else zipped(files)
    for cut in (len(data) // 3, len(data) // 2):
        with pytest.raises(UnsupportedDocument):
            list(unpack(data[:cut], LIMITS))
    with pytest.raises(UnsupportedDocument):
        list(unpack(data[:10] + random.Random(3).randbytes(5_000), LIMITS))


def test_what_is_an_archive_goes_by_name_and_content(small_docx: bytes) -> None:
    assert is_bundle("files.zip", zipped(FILES)[:512])
    assert is_bundle("files.tar.gz", gzip.compress(tarred(FILES))[:512])
    assert is_bundle("files.tar", tarred(FILES)[:512])
    assert not is_bundle("report.docx", small_docx[:512])
    assert not is_bundle("files.zip", b"plain text")
