"""A disk that fails at a chosen call, and that can lose what was not synced, as a power cut does."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.disk import Disk
from agenthub.rag.volume import Volume

Fault = Literal["EIO", "ENOSPC", "ESTALE", "short", "crash"]
FAULTS: Final[tuple[Fault, ...]] = ("EIO", "ENOSPC", "ESTALE", "short", "crash")


class Crash(BaseException):
    """The process died here. Nothing may catch it and go on."""


class FaultDisk(Disk):
    """Counts calls; at the `at`-th it fails in the given way. After a crash every call fails.

    Nothing is really synced, which takes long. `unsynced` are files whose bytes, and `unlinked`
    entries whose names, a power cut may take away.
    """

    def __init__(self, fault: Fault = "EIO", at: int = 0) -> None:
        self.fault = fault
        self.at = at
        self.calls: list[str] = []
        self.failed_descriptors: list[int] = []
        self.unsynced: set[str] = set()
        self.unlinked: set[str] = set()
        self.dead = False

    def _pass(self, call: str) -> bool:
        """Whether this very call has to fall short instead of failing."""
        if self.dead:
            raise Crash(call)
        self.calls.append(call)
        if len(self.calls) != self.at:
            return False
        if self.fault == "crash":
            self.dead = True
            raise Crash(call)
        if self.fault == "short":
            return call in ("write", "read_into")
        raise OSError(getattr(errno, self.fault), f"injected at {call}")

    def open_root(self, root: Path) -> int:
        self._pass("open_root")
        return super().open_root(root)

    def make_root(self, root: Path) -> None:
        self._pass("make_root")
        super().make_root(root)

    def open_folder(self, parent: int, name: str) -> int:
        self._pass("open_folder")
        return super().open_folder(parent, name)

    def make_folder(self, parent: int, name: str) -> bool:
        self._pass("make_folder")
        made = super().make_folder(parent, name)
        if made:
            self.unlinked.add(f"{_path(parent)}/{name}")
        return made

    def create(self, folder: int, name: str) -> int:
        self._pass("create")
        descriptor = super().create(folder, name)
        self.unlinked.add(_path(descriptor))
        self.unsynced.add(_path(descriptor))
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._pass("write"):
            return super().write(descriptor, data[: max(1, len(data) // 2)])
        return super().write(descriptor, data)

    def sync_file(self, descriptor: int) -> None:
        assert descriptor not in self.failed_descriptors, "fsync was tried again on a descriptor that failed"
        try:
            self._pass("sync_file")
        except OSError:
            self.failed_descriptors.append(descriptor)
            raise
        self.unsynced.discard(_path(descriptor))

    def sync_folder(self, descriptor: int) -> None:
        self._pass("sync_folder")
        folder = _path(descriptor)
        self.unlinked = {path for path in self.unlinked if str(Path(path).parent) != folder}

    def close(self, descriptor: int) -> None:
        """A close that fails closes all the same, as Linux does; a dead process leaks nothing either."""
        if descriptor in self.failed_descriptors:
            self.failed_descriptors.remove(descriptor)
        kind = "close_folder" if Path(_path(descriptor)).is_dir() else "close_file"
        super().close(descriptor)
        self._pass(kind)

    def open_file(self, folder: int, name: str) -> int:
        self._pass("open_file")
        return super().open_file(folder, name)

    def size(self, descriptor: int) -> int:
        self._pass("size")
        return super().size(descriptor)

    def read_into(self, descriptor: int, buffer: memoryview) -> int:
        if self._pass("read_into"):
            return super().read_into(descriptor, buffer[: max(1, len(buffer) // 2)])
        return super().read_into(descriptor, buffer)

    def map(self, descriptor: int, length: int) -> NDArray[np.uint8]:
        self._pass("map")
        return super().map(descriptor, length)

    def remove_file(self, folder: int, name: str) -> None:
        self._pass("remove_file")
        super().remove_file(folder, name)

    def remove_folder(self, parent: int, name: str) -> None:
        self._pass("remove_folder")
        super().remove_folder(parent, name)

    def free(self, descriptor: int) -> tuple[int, int]:
        self._pass("free")
        return super().free(descriptor)

    def lose_unsynced(self, seed: int) -> None:
        """What a power cut leaves: entries that were not synced are gone, bytes that were not synced are gone, cut or zero."""
        random = np.random.default_rng(seed)
        for path in sorted(self.unlinked | self.unsynced, key=len, reverse=True):
            if not Path(path).exists():
                continue
            if path in self.unlinked and random.random() < 0.7:
                shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
            elif path in self.unsynced:
                _damage(Path(path), random)


def _damage(path: Path, random: np.random.Generator) -> None:
    data = path.read_bytes()
    choice = int(random.integers(3))
    path.write_bytes([b"", data[: len(data) // 2], bytes(len(data))][choice])


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def fault_volume(root: Path, disk: FaultDisk, **options: Any) -> Volume:
    """A volume on this disk."""
    return Volume(root, disk=disk, **options)
