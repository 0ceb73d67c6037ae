"""A merge in a process of its own writes what one in this process writes, and fails as it does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agenthub.core.errors import CorruptFile, MissingFile, VolumeUnavailable
from agenthub.rag import merging_apart
from agenthub.rag.merging import Burials, visible_rows
from agenthub.rag.merging_apart import rewrite_apart
from agenthub.rag.references import Tombstone
from tests.rag.samples import Base, chunks, new_engine, vectors


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    monkeypatch.setattr(merging_apart, "APART_CHUNKS", 1)
    made = Base(new_engine(tmp_path / "volume")).create()
    for part in range(2):
        made.append(chunks(30, f"p{part}-"), vectors(30, part))
    return made


def test_the_same_rows_without_the_hidden_ones(base: Base) -> None:
    engine, manifest = base.engine, base.engine.read_manifest(base.id, base.pointer)
    burials = Burials([Tombstone("chunk", "p1-7", manifest.generation + 1)])
    entry = rewrite_apart(engine.segments, base.id, manifest.segments, burials, signature=manifest.signature, language="english")
    assert entry is not None and entry.chunk_count == 59
    found = list(visible_rows(engine.segments, base.id, entry, Burials([])))
    kept = [part for one in manifest.segments for part in visible_rows(engine.segments, base.id, one, burials)]
    assert [chunk.id for chunks, _ in found for chunk in chunks] == [chunk.id for chunks, _ in kept for chunk in chunks]
    assert b"".join(rows.tobytes() for _, rows in found) == b"".join(rows.tobytes() for _, rows in kept)


def test_nothing_visible_is_no_segment(base: Base) -> None:
    manifest = base.engine.read_manifest(base.id, base.pointer)
    burials = Burials([Tombstone("chunk", f"p{part}-{n}", manifest.generation + 1) for part in range(2) for n in range(30)])
    segments = base.engine.segments
    assert rewrite_apart(segments, base.id, manifest.segments, burials, signature=manifest.signature, language="english") is None


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_its_errors_are_those_of_a_merge_here(base: Base, tmp_path: Path, harm: str) -> None:
    manifest = base.engine.read_manifest(base.id, base.pointer)
    file = next((tmp_path / "volume").glob("*/segments/*/chunks.jsonl"))
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b" ")
    with pytest.raises(MissingFile if harm == "missing" else CorruptFile):
        rewrite_apart(base.engine.segments, base.id, manifest.segments, Burials([]), signature=manifest.signature, language="english")


def test_a_process_that_dies_is_a_clear_failure(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    manifest = base.engine.read_manifest(base.id, base.pointer)
    with pytest.raises(VolumeUnavailable, match="without an answer"):
        rewrite_apart(base.engine.segments, base.id, manifest.segments, Burials([]), signature=manifest.signature, language="english")


def test_the_process_ends_without_a_word(base: Base, capfd: pytest.CaptureFixture[str]) -> None:
    """Python 3.11 aborted at its end, in one of several runs, with a message of ten lines in the server's log."""
    manifest = base.engine.read_manifest(base.id, base.pointer)
    for _ in range(3):
        rewrite_apart(base.engine.segments, base.id, manifest.segments, Burials([]), signature=manifest.signature, language="english")
    assert capfd.readouterr() == ("", "")
