"""T1 and T2 on three kinds of storage: whatever call fails or ends the process, what was committed is served and the next write works."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from agenthub.core.errors import VolumeUnavailable
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.references import Pointer
from tests.faults.figures import Figures
from tests.rag.fault_volume import FAULTS, Crash, Fault, FaultDisk, fault_volume
from tests.rag.samples import NOW, SIGNATURE, Base, chunks, new_engine, vectors


class NfsDisk(FaultDisk):
    """Bytes reach the server when the file is closed, whatever fsync said; a close that fails has lost them."""

    def close(self, descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        try:
            super().close(descriptor)
        except OSError:
            if path in self.made:
                self.unsynced.add(path)
            raise
        finally:
            self.made.discard(path)

    def __init__(self, fault: Fault = "EIO", at: int = 0) -> None:
        super().__init__(fault, at)
        self.made: set[str] = set()

    def create(self, folder: int, name: str) -> int:
        descriptor = super().create(folder, name)
        self.made.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        return descriptor


class GcsfuseDisk(FaultDisk):
    """A mounted bucket: a file is nowhere to be seen until its close succeeded, fsync does nothing, folders have no entries to sync."""

    def __init__(self, fault: Fault = "EIO", at: int = 0) -> None:
        super().__init__(fault, at)
        self.uploading: dict[int, tuple[str, str]] = {}

    def create(self, folder: int, name: str) -> int:
        descriptor = super().create(folder, name)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        hidden = f"{path}.uploading"
        Path(path).rename(hidden)
        self.uploading[descriptor] = (path, hidden)
        self.unsynced.discard(path)
        self.unlinked.discard(path)
        return descriptor

    def sync_file(self, descriptor: int) -> None:
        self._pass("sync_file")

    def close(self, descriptor: int) -> None:
        path, hidden = self.uploading.pop(descriptor, ("", ""))
        try:
            super().close(descriptor)
        except BaseException:
            if hidden:
                Path(hidden).unlink()
            raise
        if hidden:
            Path(hidden).rename(path)


PROFILES: dict[str, type[FaultDisk]] = {"posix": FaultDisk, "nfs": NfsDisk, "gcsfuse": GcsfuseDisk}


def write(engine: KnowledgeEngine, base: Base) -> Pointer:
    entry = engine.write_segment(base.id, chunks(4, "new"), vectors(4, 2), signature=SIGNATURE, language="english")
    manifest = engine.read_manifest(base.id, base.pointer)
    return engine.put_manifest(base.id, manifest.successor(added=[entry], operation_id="faulty", now=NOW))


def count(root: Path, base: Base, pointer: Pointer) -> int:
    return new_engine(root).searcher(base.id, pointer, base.tombstones).chunk_count


def one(figures: Figures, profile: str, fault: Fault, at: int, root: Path, base: Base) -> None:
    disk = PROFILES[profile](fault, at)
    figures.injections += 1
    try:
        pointer = write(KnowledgeEngine(fault_volume(root, disk, mapping="never"), RagSettings()), base)
    except (VolumeUnavailable, Crash):
        pointer = None
    for left in root.rglob("*.uploading"):
        left.unlink()  # an upload that was never closed is no object
    disk.lose_unsynced(at)
    where = f"{profile} {fault} at call {at}"
    figures.expect(count(root, base, base.pointer) == 5, f"{where}: the old generation changed")
    if pointer is not None:
        figures.counts["acknowledged"] += 1
        figures.expect(count(root, base, pointer) == 9, f"{where}: an acknowledged write is lost")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_call_may_fail_or_be_the_last(profile: str, tmp_path: Path) -> None:
    figures = Figures(f"T1/T2 {profile}", seed=0)
    root = tmp_path / "volume"
    base = Base(new_engine(root)).create()
    base.append(chunks(6, "old"), vectors(6, 1))
    base.delete(chunk="old1")
    counting = PROFILES[profile]()
    shutil.copytree(root, tmp_path / "counting")
    write(KnowledgeEngine(fault_volume(tmp_path / "counting", counting, mapping="never"), RagSettings()), base)
    for fault in FAULTS:
        for at in range(1, len(counting.calls) + 1, 1 if fault == "crash" else 4):
            one(figures, profile, fault, at, root, base)
    pointer = write(new_engine(root), base)
    figures.expect(count(root, base, pointer) == 9, "the volume is wedged")
    sys.stdout.write(figures.line() + "\n")
    assert figures.violations == []
    assert figures.injections >= 200
