"""Parsing happens where it can do no harm, and its end is always known."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import PayloadTooLarge, RateLimited, UnsupportedDocument
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.sandbox import IN_PROCESS_BYTES, parse_safely

LIMITS = ParsingLimits()
MIB = 1024 * 1024
PAGE = b"<html><body><p>hello world</p></body></html>"
SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Every process the sandbox starts, with the arguments it was started with."""
    seen: list[tuple[subprocess.Popen[bytes], dict[str, Any]]] = []
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = real(command, **options)
        seen.append((process, options))
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    return seen


def living(group: int) -> list[int]:
    """The processes of the group that still run; killed ones may wait as zombies for their new parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


def assert_all_gone(started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]]) -> None:
    assert started
    for process, _ in started:
        assert process.returncode is not None, "reaped"
        limit = time.monotonic() + 120  # the kernel may take a moment to end what was killed
        while living(process.pid) and time.monotonic() < limit:
            time.sleep(0.02)
        assert not living(process.pid)


def test_the_child_inherits_nothing_it_does_not_need(
    started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTHUB_OWNER_PASSWORD", "canary")
    assert parse_safely(PAGE, "page.html", None, LIMITS).blocks[0].text == "hello world"
    ((_, options),) = started
    assert set(options["env"]) == {"PYTHONPATH", "LC_ALL"}
    assert options["close_fds"] and options["start_new_session"]
    assert_all_gone(started)


def test_small_plain_kinds_need_no_child_and_others_do(started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]]) -> None:
    for name in ("a.txt", "a.csv", "a.json", "a.jsonl"):
        parse_safely(b'"words"', name, None, LIMITS)
    assert not started
    parse_safely(b"words " * (IN_PROCESS_BYTES // 6 + 1), "large.txt", None, LIMITS)
    parse_safely(b"words", "a.md", None, LIMITS)
    assert len(started) == 2
    assert_all_gone(started)


def test_processor_time_is_bounded(
    started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]], small_xlsx: bytes, rezipped: Callable[..., bytes]
) -> None:
    # A row number of a thousand million: openpyxl would make up all the empty rows before it.
    cell = '<c t="inlineStr"><is><t>x</t></is></c>'
    sheet = f'<worksheet xmlns="{SPREADSHEET}"><sheetData><row r="1000000000">{cell}</row></sheetData></worksheet>'
    data = rezipped(small_xlsx, {"xl/worksheets/sheet1.xml": sheet.encode()})
    with pytest.raises(UnsupportedDocument, match="more than 1 seconds of processor time"):
        parse_safely(data, "hog.xlsx", None, replace(LIMITS, cpu_seconds=1))
    assert_all_gone(started)


def test_time_is_bounded(started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]]) -> None:
    with pytest.raises(UnsupportedDocument, match=r"took longer than 0\.001 seconds"):
        parse_safely(PAGE, "page.html", None, replace(LIMITS, wall_seconds=0.001))
    assert_all_gone(started)


def test_memory_is_bounded(started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]]) -> None:
    text = b"some words and more\n" * (30 * MIB // 20)
    with pytest.raises(UnsupportedDocument, match="memory"):
        parse_safely(text, "large.txt", None, replace(LIMITS, memory_bytes=100 * MIB))
    assert_all_gone(started)


def test_a_stream_that_unfolds_for_ever_does_not_fill_the_machine(
    started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]], assembled_pdf: Callable[..., bytes]
) -> None:
    bomb = zlib.compress(zlib.compress(b" " * 300_000_000, 9), 9)
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n" % len(bomb) + bomb + b"\nendstream"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, stream]
    with pytest.raises(UnsupportedDocument):
        parse_safely(assembled_pdf(objects), "bomb.pdf", None, replace(LIMITS, memory_bytes=256 * MIB))
    assert_all_gone(started)


def test_a_child_that_dies_is_a_refusal(started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]]) -> None:
    with pytest.raises(UnsupportedDocument, match=r"crashed|memory"):
        parse_safely(PAGE, "page.html", None, replace(LIMITS, memory_bytes=8 * MIB))
    assert_all_gone(started)


def test_the_answer_is_bounded(started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]]) -> None:
    with pytest.raises(PayloadTooLarge, match="larger than 1,000 bytes"):
        parse_safely(b"<p>" + b"word " * 1_000, "page.html", None, replace(LIMITS, output_bytes=1_000))
    assert_all_gone(started)


def test_a_large_document_goes_in_and_comes_out_whole() -> None:
    words = [str(number) for number in random.Random(2).sample(range(10**9), 200_000)]
    parsed = parse_safely(" ".join(words).encode(), "numbers.txt", None, LIMITS)
    assert parsed.blocks[0].text.split() == words


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("cat > /dev/null; printf Rnonsense", "half-way"),
        ("cat > /dev/null; printf '{}'", "crashed"),
        ("cat > /dev/null; printf 'R{}'", "half-way"),
        ("exit 3", "crashed"),
        ("kill -SEGV $$", "crashed"),
        ("exec >&-; sleep 60", "crashed"),
        ("sleep 60 & exec sleep 60", "took longer"),
    ],
)
def test_a_child_taken_over_by_its_document_gets_nowhere(
    command: str, reason: str, started: list[tuple[subprocess.Popen[bytes], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    spying = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: spying(["/bin/sh", "-c", command], **options))
    with pytest.raises(UnsupportedDocument, match=reason):
        parse_safely(PAGE * 10_000, "page.html", None, replace(LIMITS, wall_seconds=2.0))
    assert_all_gone(started)


def test_a_machine_without_processes_is_not_the_documents_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(RateLimited) as caught:
        parse_safely(PAGE, "page.html", None, LIMITS)
    assert caught.value.retry_after_seconds
