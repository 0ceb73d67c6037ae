"""A safeguard that is switched off must be missed: each of these harnesses reports nothing with it, and a violation without.

The fence of writers' intents and the rule of tombstones are switched off in tests/repositories/knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agenthub.core import failpoints
from agenthub.core.errors import AgentHubError, OutcomeUnknown, VolumeUnavailable
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.references import Pointer
from agenthub.rag.segment import Chunk
from agenthub.rag.volume import Volume
from agenthub.repositories.base import OperationRepeated
from agenthub.repositories.knowledge.commits import Effect, KnowledgeCommits
from agenthub.repositories.knowledge.ledger import OPERATIONS
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Insert, Row, Storage, Table, Write
from agenthub.storage.memory import MemoryStorage
from tests.rag.fault_volume import Crash, FaultDisk, fault_volume
from tests.rag.samples import NOW, SIGNATURE, Base, chunks, new_engine, vectors
from tests.repositories.knowledge.world import World, vector_of

# --- unique names ---


def after_a_writer_died_between_manifest_and_commit() -> list[str]:
    """What is wrong with a knowledge base that such a writer leaves."""
    world = World().create()
    world.add("kept", "this is kept")
    failpoints.arm("commit.before=error@1")
    with pytest.raises(failpoints.Failpoint):
        world.add("dead", "this writer dies")
    failpoints.arm("")
    try:
        world.add("next", "this writer comes later")
    except VolumeUnavailable as error:
        return [f"wedged: {error.message}"]
    return [] if set(world.content()) == {"kept", "next"} else [f"content: {world.content()}"]


def test_unique_names_keep_a_dead_writers_manifest_out_of_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert after_a_writer_died_between_manifest_and_commit() == []
    monkeypatch.setattr("agenthub.rag.engine.random_name", lambda: "m" * 26)
    assert after_a_writer_died_between_manifest_and_commit() != []


# --- fsync, and the check of close ---


def after_a_power_cut(root: Path, disk: FaultDisk) -> list[str]:
    """What is wrong with an acknowledged commit after the power was cut, over many ways in which it may go."""
    base = Base(new_engine(root)).create()
    base.append(chunks(5, "old"), vectors(5, 1))
    engine = KnowledgeEngine(fault_volume(root, disk, mapping="never"), RagSettings())
    try:
        entry = engine.write_segment(base.id, chunks(6, "new"), vectors(6, 2), signature=SIGNATURE, language="english")
        manifest = engine.read_manifest(base.id, base.pointer)
        pointer = engine.put_manifest(base.id, manifest.successor(added=[entry], operation_id="cut", now=NOW))
    except (VolumeUnavailable, Crash):
        return whole(root, base, base.pointer, 5)
    disk.lose_unsynced(seed=1)
    return whole(root, base, pointer, 11)


def whole(root: Path, base: Base, pointer: Pointer, count: int) -> list[str]:
    try:
        found = new_engine(root).searcher(base.id, pointer, []).chunk_count
    except VolumeUnavailable as error:
        return [f"an acknowledged generation is lost: {error.message}"]
    return [] if found == count else [f"{found} chunks instead of {count}"]


def fill_without_sync(volume: Volume, descriptor: int, view: memoryview) -> None:
    volume._write_all(descriptor, view)
    volume._disk.close(descriptor)


def fill_without_close_check(volume: Volume, descriptor: int, view: memoryview) -> None:
    volume._write_all(descriptor, view)
    volume._disk.sync_file(descriptor)
    with suppress(OSError):
        volume._disk.close(descriptor)


class LateDisk(FaultDisk):
    """A mount that says only when a file is closed that its bytes did not reach the server; this host goes on seeing them."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self.file = file
        self.files = 0
        self.written: set[str] = set()

    def close(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        made = str(path) in self.written
        super().close(descriptor)
        if made:
            self.files += 1
            self.written.discard(str(path))
            if self.files == self.file:
                self.unsynced.add(str(path))
                raise OSError(5, "the server did not take it")

    def create(self, folder: int, name: str) -> int:
        descriptor = super().create(folder, name)
        self.written.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        return descriptor


def test_fsync_keeps_what_was_acknowledged_over_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert after_a_power_cut(tmp_path / "synced", FaultDisk()) == []
    monkeypatch.setattr(Volume, "_fill", fill_without_sync)
    assert after_a_power_cut(tmp_path / "unsynced", FaultDisk()) != []


def test_syncing_folders_keeps_the_names_of_what_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultDisk, "sync_folder", lambda self, descriptor: None)
    assert after_a_power_cut(tmp_path / "unsynced", FaultDisk()) != []


@pytest.mark.parametrize("file", range(1, 8))
def test_a_close_that_fails_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    assert after_a_power_cut(tmp_path / "checked", LateDisk(file)) == []
    monkeypatch.setattr(Volume, "_fill", fill_without_close_check)
    if file in (2, 6, 7):  # chunks, header, manifest: truth that is read when the generation is opened
        assert after_a_power_cut(tmp_path / "unchecked", LateDisk(file)) != []


# --- kb_ops ---


class LosingStorage(MemoryStorage):
    """Commits, and then the acknowledgement is lost; with `forgetful` nothing is recorded in kb_ops."""

    def __init__(self, forgetful: bool) -> None:
        super().__init__()
        self.losing = 0
        self.forgetful = forgetful

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        kept = [write for write in writes if not (self.forgetful and isinstance(write, Insert) and write.table is OPERATIONS)]
        rows = super().commit(kept)
        if any(isinstance(write, Insert) and write.table is OPERATIONS for write in writes) and self.losing:
            self.losing -= 1
            raise OutcomeUnknown("the connection died during COMMIT")
        return rows

    def get(self, table: Table, tenant: Any, key: str) -> Row | None:
        return None if self.forgetful and table is OPERATIONS else super().get(table, tenant, key)


def after_lost_acknowledgements(storage: Storage) -> list[str]:
    """What is wrong when a client repeats its write with the same key until it hears of its success."""
    world = World(storage=storage).create()
    for number in range(5):
        operation = Operation(id=f"operation {number}", payload_sha256="same")
        if isinstance(storage, LosingStorage):
            storage.losing = 1
        for _ in range(3):
            try:
                add_chunk(world, operation, f"text {number}")
                break
            except OperationRepeated:
                break
            except (OutcomeUnknown, AgentHubError):
                continue
    texts = [text for found in world.content().values() for text in found]
    return [] if texts == sorted({f"text {number}" for number in range(5)}) else [f"not once each: {texts}"]


def add_chunk(world: World, operation: Operation, text: str) -> None:
    commits = KnowledgeCommits(world.storage, world.engine, operation)
    with commits.staging(world.base) as staging:
        staging.write_segment([Chunk(f"{text} {len(world.disk.contents)}", None, text, {})], vector_of(text)[None])
        staging.publish(lambda base, generation, now: Effect(generation, "add", chunks_delta=1))


def test_recorded_operations_settle_lost_acknowledgements() -> None:
    assert after_lost_acknowledgements(LosingStorage(forgetful=False)) == []
    assert after_lost_acknowledgements(LosingStorage(forgetful=True)) != []
