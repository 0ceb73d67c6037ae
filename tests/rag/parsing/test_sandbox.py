"""Parsing happens where it can do no harm, and its end is always known."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import PayloadTooLarge, RateLimited, UnsupportedDocument
from agenthub.rag.parsing import sandbox
from agenthub.rag.parsing.forking import SERVER, Forked, Forking
from agenthub.rag.parsing.kinds import Kind
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.sandbox import IN_PROCESS_BYTES, parse_safely

LIMITS = ParsingLimits()
MIB = 1024 * 1024
PAGE = b"<html><body><p>hello world</p></body></html>"
SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


@dataclass
class Started:
    """The servers that were started, with what they were given, and how many children were asked for."""

    servers: list[tuple[subprocess.Popen[bytes], dict[str, Any]]] = field(default_factory=list)
    children: int = 0

    def living(self) -> list[str]:
        """The children that still run; killed ones may wait as zombies."""
        found = []
        for process, _ in self.servers:
            with contextlib.suppress(OSError):
                found += Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return found

    def assert_all_gone(self) -> None:
        """Every child was killed and reaped; the kernel may take a moment to end what was killed."""
        assert self.children
        limit = time.monotonic() + 120
        while self.living() and time.monotonic() < limit:
            time.sleep(0.02)
        assert not self.living()


class Counting(Forking):
    """Counts what is asked of it."""

    def __init__(self, seen: Started, module: str = SERVER) -> None:
        super().__init__(module)
        self._seen = seen

    def start(self, kind: Kind) -> Forked:
        self._seen.children += 1
        return super().start(kind)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """What the sandbox starts, from a server of its own."""
    seen, real = Started(), subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = real(command, **options)
        seen.servers.append((process, options))
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    with closing(Counting(seen)) as forking:
        monkeypatch.setattr(sandbox, "_FORKING", forking)
        yield seen


@pytest.fixture
def hostile(started: Started, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """The same, with children that do what their document says."""
    with closing(Counting(started, "tests.rag.parsing.hostile")) as forking:
        monkeypatch.setattr(sandbox, "_FORKING", forking)
        yield started


def obeyed(command: str) -> bytes:
    """A document that takes its child over; most of it is left unread."""
    return b"<html>\n" + command.encode() + b"\n" + PAGE * 10_000


def running(marker: str) -> list[str]:
    """The processes with this in their command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in line.read_bytes():
                found.append(line.parent.name)
    return found


def test_the_child_inherits_nothing_it_does_not_need(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHUB_OWNER_PASSWORD", "canary")
    assert parse_safely(PAGE, "page.html", None, LIMITS).blocks[0].text == "hello world"
    ((_, options),) = started.servers
    assert set(options["env"]) == {"PYTHONPATH", "LC_ALL"}
    assert options["close_fds"] and options["start_new_session"]
    started.assert_all_gone()


def test_the_child_has_its_line_and_no_other_descriptor(hostile: Started) -> None:
    listing = "$(ls /proc/self/fd | tr '\\n' ' ')"  # 3 is the folder that ls reads
    with pytest.raises(UnsupportedDocument, match=r"^0 1 2 3 $"):
        parse_safely(obeyed(f'cat > /dev/null; printf \'U"%s"\' "{listing}"'), "page.html", None, LIMITS)
    hostile.assert_all_gone()


def test_children_have_the_priority_of_the_thread_that_asks(hostile: Started) -> None:
    told: list[str] = []

    def ask() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 7)
        with pytest.raises(UnsupportedDocument) as caught:
            parse_safely(obeyed("cat > /dev/null; printf 'U\"%s\"' $(nice)"), "page.html", None, LIMITS)
        told.append(caught.value.message)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert told == ["7"]


def test_small_plain_kinds_need_no_child_and_others_do(started: Started) -> None:
    for name in ("a.txt", "a.csv", "a.json", "a.jsonl"):
        parse_safely(b'"words"', name, None, LIMITS)
    assert not started.servers
    parse_safely(b"words " * (IN_PROCESS_BYTES // 6 + 1), "large.txt", None, LIMITS)
    parse_safely(b"words", "a.md", None, LIMITS)
    assert (started.children, len(started.servers)) == (2, 1)
    started.assert_all_gone()


def test_processor_time_is_bounded(started: Started, small_xlsx: bytes, rezipped: Callable[..., bytes]) -> None:
    # A row number of a thousand million: openpyxl would make up all the empty rows before it.
    cell = '<c t="inlineStr"><is><t>x</t></is></c>'
    sheet = f'<worksheet xmlns="{SPREADSHEET}"><sheetData><row r="1000000000">{cell}</row></sheetData></worksheet>'
    data = rezipped(small_xlsx, {"xl/worksheets/sheet1.xml": sheet.encode()})
    with pytest.raises(UnsupportedDocument, match="more than 1 seconds of processor time"):
        parse_safely(data, "hog.xlsx", None, replace(LIMITS, cpu_seconds=1))
    started.assert_all_gone()


def test_time_is_bounded(started: Started) -> None:
    with pytest.raises(UnsupportedDocument, match=r"took longer than 0\.001 seconds"):
        parse_safely(PAGE, "page.html", None, replace(LIMITS, wall_seconds=0.001))
    started.assert_all_gone()


def test_memory_is_bounded(started: Started) -> None:
    text = b"some words and more\n" * (30 * MIB // 20)
    with pytest.raises(UnsupportedDocument, match="memory"):
        parse_safely(text, "large.txt", None, replace(LIMITS, memory_bytes=100 * MIB))
    started.assert_all_gone()


def test_a_stream_that_unfolds_for_ever_does_not_fill_the_machine(started: Started, assembled_pdf: Callable[..., bytes]) -> None:
    bomb = zlib.compress(zlib.compress(b" " * 300_000_000, 9), 9)
    stream = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n" % len(bomb) + bomb + b"\nendstream"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, stream]
    with pytest.raises(UnsupportedDocument):
        parse_safely(assembled_pdf(objects), "bomb.pdf", None, replace(LIMITS, memory_bytes=256 * MIB))
    started.assert_all_gone()


def test_a_child_that_dies_is_a_refusal(started: Started) -> None:
    with pytest.raises(UnsupportedDocument, match=r"crashed|memory"):
        parse_safely(PAGE, "page.html", None, replace(LIMITS, memory_bytes=8 * MIB))
    started.assert_all_gone()


def test_the_answer_is_bounded(started: Started) -> None:
    with pytest.raises(PayloadTooLarge, match="larger than 1,000 bytes"):
        parse_safely(b"<p>" + b"word " * 1_000, "page.html", None, replace(LIMITS, output_bytes=1_000))
    started.assert_all_gone()


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
        ("exec <&- >&-; sleep 60", "crashed"),
        ("sleep 60.0815 & exec sleep 60", "took longer"),
    ],
)
def test_a_child_taken_over_by_its_document_gets_nowhere(command: str, reason: str, hostile: Started) -> None:
    with pytest.raises(UnsupportedDocument, match=reason):
        parse_safely(obeyed(command), "page.html", None, replace(LIMITS, wall_seconds=2.0))
    hostile.assert_all_gone()
    limit = time.monotonic() + 120
    while running("60.0815") and time.monotonic() < limit:
        time.sleep(0.02)
    assert not running("60.0815"), "what the child started lives on"


def test_a_child_that_kills_its_server_ends_with_it_and_is_not_tried_for_ever(hostile: Started) -> None:
    with pytest.raises(RateLimited):
        parse_safely(obeyed("kill -KILL $PPID; exec sleep 60.0816"), "page.html", None, LIMITS)
    assert len(hostile.servers) == hostile.children == 2
    assert not running("60.0816")


def test_a_server_that_was_killed_is_replaced(started: Started) -> None:
    for _ in range(2):
        assert parse_safely(PAGE, "page.html", None, LIMITS).blocks[0].text == "hello world"
        started.servers[-1][0].kill()
    assert parse_safely(PAGE, "page.html", None, LIMITS).blocks[0].text == "hello world"


def test_the_server_ends_when_its_process_needs_it_no_more(started: Started) -> None:
    parse_safely(PAGE, "page.html", None, LIMITS)
    sandbox._FORKING.close()
    assert started.servers[0][0].wait(120) == 0


def test_many_documents_at_once_come_from_one_server(started: Started) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = [f"words {number}" for number in range(64)]
        parsed = list(pool.map(lambda text: parse_safely(text.encode(), "a.md", None, LIMITS), texts))
    assert [one.blocks[0].text for one in parsed] == texts
    assert (started.children, len(started.servers)) == (64, 1)
    started.assert_all_gone()


def test_a_machine_without_processes_is_not_the_documents_fault(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Counting(started, "tests.rag.parsing.barren")) as forking:
        monkeypatch.setattr(sandbox, "_FORKING", forking)
        with pytest.raises(RateLimited) as caught:
            parse_safely(PAGE, "page.html", None, LIMITS)
    assert caught.value.retry_after_seconds


def test_a_machine_that_can_not_start_the_server_is_not_either(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(RateLimited):
        parse_safely(PAGE, "page.html", None, LIMITS)
    assert started.children == 1
