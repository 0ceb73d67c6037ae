"""Whatever call fails or kills the process while a segment and its manifest are written, what was committed stays readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from agenthub.core import failpoints
from agenthub.core.errors import VolumeUnavailable
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import SearchRequest
from tests.rag.fault_volume import FAULTS, Crash, Fault, FaultDisk, fault_volume
from tests.rag.samples import NOW, SIGNATURE, Base, chunks, new_engine, vectors

QUERY = vectors(1, 99)[0]
Answer = list[tuple[str, float]]


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A knowledge base with one committed segment and a delete."""
    made = Base(new_engine(tmp_path / "committed")).create()
    made.append(chunks(10, "old"), vectors(10, 1))
    made.delete(document="old-doc1")
    return made


def answer(engine: KnowledgeEngine, base: Base, pointer: Pointer) -> Answer:
    """What a process that starts now finds under the pointer."""
    hits = engine.searcher(base.id, pointer, base.tombstones).search([SearchRequest("river forest", QUERY, "hybrid", 100)])[0]
    return [(hit.id, hit.score) for hit in hits]


def write(engine: KnowledgeEngine, base: Base) -> Pointer:
    """What a commit does before its compare-and-set."""
    entry = engine.write_segment(base.id, chunks(6, "new"), vectors(6, 2), signature=SIGNATURE, language="english")
    manifest = engine.read_manifest(base.id, base.pointer)
    return engine.put_manifest(base.id, manifest.successor(added=[entry], operation_id="faulty", now=NOW))


def files_of(engine: KnowledgeEngine) -> list[Path]:
    return sorted(path for path in engine.volume.root.rglob("*") if path.is_file())


def copied(base: Base, tmp_path: Path, name: str) -> Path:
    shutil.copytree(base.engine.volume.root, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_call_leaves_the_old_generation_and_allows_the_next_write(base: Base, tmp_path: Path, fault: Fault) -> None:
    root = base.engine.volume.root
    before = answer(base.engine, base, base.pointer)
    assert len(before) == 7
    for at in range(1, _calls(base, tmp_path) + 1):
        disk = FaultDisk(fault, at)
        pointer = _attempt(KnowledgeEngine(fault_volume(root, disk), RagSettings()), base)
        if fault == "crash":
            disk.lose_unsynced(at)
        assert pointer is not None or fault != "short"
        fresh = new_engine(root)
        assert answer(fresh, base, base.pointer) == before
        if pointer is not None:
            assert len(answer(fresh, base, pointer)) == 13
        if at % 20 == 0:
            again = write(fresh, base)
            assert len(answer(fresh, base, again)) == 13
            assert fresh.verify(base.id, again) == []


def _calls(base: Base, tmp_path: Path) -> int:
    """How many calls a write makes."""
    disk = FaultDisk()
    write(KnowledgeEngine(fault_volume(copied(base, tmp_path, "counting"), disk), RagSettings()), base)
    assert len(disk.calls) > 100
    return len(disk.calls)


def _attempt(engine: KnowledgeEngine, base: Base) -> Pointer | None:
    """The new pointer; None where the write was refused or the process died."""
    try:
        return write(engine, base)
    except (VolumeUnavailable, Crash):
        return None


def test_a_failed_write_leaves_no_files_where_the_disk_still_works(base: Base) -> None:
    engine = base.engine
    files = files_of(engine)
    trail = failpoints.record()
    entry = engine.write_segment(base.id, chunks(4), vectors(4, 3), signature=SIGNATURE, language="english")
    engine.discard_segment(base.id, entry)
    steps = trail.index("volume.discard")
    assert files_of(engine) == files
    for number in range(1, steps + 1):
        failpoints.arm(f"all=error@{number}")
        with pytest.raises((VolumeUnavailable, failpoints.Failpoint)):
            engine.write_segment(base.id, chunks(4), vectors(4, 3), signature=SIGNATURE, language="english")
        assert files_of(engine) == files
    failpoints.arm("")
    failpoints._plan.trail = None


@pytest.mark.parametrize("fault", ["EIO", "ESTALE"])
def test_a_fault_at_every_call_of_opening_is_an_error_or_the_right_answer(base: Base, fault: Fault) -> None:
    """Never an empty or partial answer; and the same process answers once the disk does."""
    before = answer(base.engine, base, base.pointer)
    at, failed = 0, 0
    while True:
        at += 1
        disk = FaultDisk(fault, at)
        engine = KnowledgeEngine(fault_volume(base.engine.volume.root, disk), RagSettings())
        try:
            assert answer(engine, base, base.pointer) == before
        except VolumeUnavailable:
            failed += 1
        if len(disk.calls) < at:
            break
        disk.at = 0
        assert answer(engine, base, base.pointer) == before
    assert failed > 10


def test_a_lost_segment_is_missing_not_empty(base: Base) -> None:
    searcher_before = base.searcher()
    shutil.rmtree(base.engine.volume.root / base.id / "segments")
    with pytest.raises(VolumeUnavailable):
        answer(new_engine(base.engine.volume.root), base, base.pointer)
    assert np.isclose(searcher_before.search([SearchRequest(None, QUERY, "semantic", 1)])[0][0].score, 1, atol=1)
