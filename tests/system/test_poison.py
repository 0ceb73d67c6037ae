"""RELIABILITY.md T20: hostile and broken files beside good ones, worked on by a real worker whose memory is watched."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import docx

from tests.api import Api, make_app
from tests.rag.parsing.conftest import assemble_pdf, build_pdf

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT.parent / "shared" / "data" / "documents"
MIB = 1024 * 1024
MOST_RSS_BYTES = 512 * MIB
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600


def _docx(text: str = "A letter.") -> bytes:
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


def corpus() -> dict[str, bytes]:
    """Files that must end as failed or in quarantine."""
    return {
        "zip-bomb.docx": _with_part(_docx(), "word/media/image.bmp", b"\0" * 20_000_000),
        "many-parts.docx": _many_parts(),
        "nested.docx": _with_part(_docx(), "word/embeddings/inner.zip", _docx()),
        "pdf-bomb.pdf": _pdf_bomb(),
        "ten-thousand-pages.pdf": build_pdf([[(10, 700, "page")]], kids=" ".join(["5 0 R"] * 10_000), count=10_000),
        "truncated.docx": _docx()[:2000],
        "truncated.pdf": (DOCUMENTS / "asvs-5.0.0-en.pdf").read_bytes()[:50_000],
        "encrypted.docx": COMPOUND + "EncryptedPackage".encode("utf-16-le"),
        "scan.pdf": (DOCUMENTS / "scanned-no-text.pdf").read_bytes(),
        "deep.json": b"[" * 100_000 + b"]" * 100_000,
        "empty.txt": b"",
        "program.pdf": b"\x7fELF\x02\x01\x01" + b"\0" * 500,
        "wrong-type.docx": b"plain words",
    }


def _many_parts() -> bytes:
    buffer = io.BytesIO(_docx())
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(1_100):
            archive.writestr(f"word/extra{number}.txt", b"x")
    return buffer.getvalue()


GOOD = {
    "first.txt": b"A good text about otters.",
    "second.docx": _docx("A good letter about herons."),
    "third.md": b"# Good\n\nAbout newts.",
}


def test_poison_is_refused_with_reasons_while_good_files_finish(tmp_path: Path) -> None:
    api = Api(make_app(tmp_path, f"sqlite:///{tmp_path}/agenthub.sqlite3", AGENTHUB_JOBS="off")).login()
    poison = corpus()
    with worker(tmp_path) as process:
        time.sleep(2)
        idle_bytes = resident(process.pid)
        with Watch(process.pid) as watch:
            job = ended(api, upload(api, {**poison, **GOOD}))
    items = {item["name"]: item for item in api.get(f"/api/jobs/{job['id']}/items?limit=200")["items"]}
    assert {name: items[name]["status"] for name in GOOD} == dict.fromkeys(GOOD, "done")
    assert {name for name in poison if items[name]["status"] not in ("failed", "quarantined")} == set()
    assert all(items[name]["error"]["message"] for name in poison)
    assert max(item["attempts"] for item in items.values()) <= 3
    assert (job["status"], job["progress"]["done"]) == ("partly", len(poison) + len(GOOD))
    assert watch.peak_bytes - idle_bytes <= MOST_RSS_BYTES, f"{(watch.peak_bytes - idle_bytes) // MIB} MiB above idle"


def test_a_worker_that_is_told_to_stop_leaves_its_job_to_the_next(tmp_path: Path) -> None:
    """T17: SIGTERM while a file is being read; gone within 8 seconds, nothing half done, no strike against the file."""
    api = Api(make_app(tmp_path, f"sqlite:///{tmp_path}/agenthub.sqlite3", AGENTHUB_JOBS="off")).login()
    page = [(10, 800 - 12 * line, f"Line {line} of a page that takes its time to be read.") for line in range(60)]
    files = {"long.pdf": build_pdf([page] * 80), **GOOD}
    with worker(tmp_path) as process:
        job = upload(api, files)
        while api.get(f"/api/jobs/{job}")["status"] == "queued":
            time.sleep(0.02)
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - started <= 8
    left = api.get(f"/api/jobs/{job}")
    assert left["tries"] == 0, "it was left in order"
    with worker(tmp_path):
        done = ended(api, job)
    assert (done["status"], done["progress"]["succeeded"]) == ("succeeded", len(files))
    assert max(item["attempts"] for item in api.get(f"/api/jobs/{job}/items")["items"]) == 1
