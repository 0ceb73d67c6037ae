"""Write-once files with random names below one folder: durable before anyone hears of them, verified whenever read.

The rules are RELIABILITY.md's B1 and B2: a name is made once, a failed name is abandoned, fsync is never retried, close is
checked, and what was written is read back. Paths are walked a folder at a time from the root, and links are refused.
"""

from __future__ import annotations

import errno
import hashlib
import re
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, MissingFile, VolumeFull, VolumeUnavailable
from agenthub.core.failpoints import Failpoint, failpoint
from agenthub.core.ids import random_name
from agenthub.rag.configuration import MIB, Mapping
from agenthub.rag.disk import Disk
from agenthub.rag.mounts import file_system_kind, may_map
from agenthub.rag.references import FileRef

RETRY_AFTER_SECONDS: Final = 5.0
_FOLDER_NAME: Final = re.compile(r"[0-9a-z]{26}\Z")
_FILE_NAME: Final = re.compile(
    r"(?:manifests/[0-9]{1,19}-[0-9a-z]{26}\.json"
    r"|segments/[0-9a-z]{26}/(?:segment\.json|vectors\.f32|chunks\.jsonl|index\.faiss|keywords\.safetensors|filters\.safetensors)"
    r"|originals/[0-9a-z]{26})\Z"
)
_PROBE_FOLDER: Final = "probe"
_PIECE_BYTES: Final = 8 * MIB
_FLOOR_FRACTION: Final = 0.05
_REMEMBERED_FOLDERS: Final = 10_000
_GONE: Final = frozenset({errno.ENOENT, errno.ESTALE})
_ABSENT: Final = errno.ENOENT
"""What says that a name is free. A stale handle only says that this host's view is old: what it can't see may still be there."""
_MISPLACED: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """What `Volume.self_test` saw. `free_bytes` and `total_bytes` are 0 where the file system doesn't know."""

    kind: str
    mapped: bool
    free_bytes: int
    total_bytes: int
    latency_seconds: float


class Volume:
    """The files of all knowledge bases below one folder. Touches nothing until used; safe to share between threads."""

    def __init__(self, root: Path, *, mapping: Mapping = "auto", free_space_floor_bytes: int = 64 * MIB, disk: Disk | None = None) -> None:
        self.root = root
        self._mapping = mapping
        self.floor_bytes = free_space_floor_bytes
        self.plain = disk is None
        """Whether another process that opens the same folder works on the same files in the same way."""
        self._disk = disk or Disk()
        self._durable: set[tuple[str, ...]] = set()
        self._kind: str | None = None
        self._lock = threading.Lock()

    def put_new(self, kb_id: str, name: str, data: bytes | bytearray | memoryview) -> FileRef:
        """Make a file that is durable, complete and read back when this returns.

        After a failure nothing refers to the name and it is never used again; the caller starts over with another.
        Raises: VolumeFull when there is no space; VolumeUnavailable when any step fails; ValueError when the name is not ours.
        """
        *folders, file_name = _parts(kb_id, name)
        view = memoryview(data).cast("B")
        reference = FileRef(name, view.nbytes, hashlib.sha256(view).hexdigest())
        try:
            with self._folder(folders, make=True) as folder:
                self._require_space(folder, view.nbytes)
                self._create(folder, file_name, view, reference)
        except (OSError, Failpoint) as error:
            raise _translated(error, name) from error
        return reference

    def read(self, kb_id: str, ref: FileRef) -> bytes:
        """The file's bytes, of the length and hash the reference says.

        Raises: MissingFile when it is gone; CorruptFile when it is not what was written; VolumeUnavailable when it can't be read.
        """
        return self._load(kb_id, ref, mapped=False).tobytes()

    def load(self, kb_id: str, ref: FileRef) -> NDArray[np.uint8]:
        """As `read`, without a copy: shared pages of a local file, private memory on FUSE and NFS. Do not write to it.

        Raises: as `read`.
        """
        return self._load(kb_id, ref, mapped=self.mapped)

    def unload(self, data: NDArray[np.uint8]) -> None:
        """Take what `load` returned out of this process's memory, where it is the system's anyway; reading it brings it back."""
        self._disk.unload(data)

    def discard(self, kb_id: str, refs: Sequence[FileRef]) -> None:
        """Remove names of our own that were never published, as far as possible; what stays is collected later."""
        for ref in refs:
            *folders, file_name = _parts(kb_id, ref.name)
            with suppress(OSError, Failpoint):
                failpoint("volume.discard")
                with self._folder(folders) as folder:
                    self._disk.remove_file(folder, file_name)
                if len(folders) == 3:
                    with self._folder(folders[:-1]) as parent:
                        self._disk.remove_folder(parent, folders[-1])

    def knowledge_bases(self) -> list[str]:
        """The ids of all knowledge bases that have a folder here, ascending.

        Raises: VolumeUnavailable when the folder can't be listed.
        """
        return sorted(name for name in self._names([]) if _FOLDER_NAME.match(name))

    def files(self, kb_id: str) -> list[str]:
        """Every file of a knowledge base that bears a name this engine makes, ascending. For collecting, never for reading.

        Raises: VolumeUnavailable when a folder can't be listed.
        """
        found = [f"{kind}/{name}" for kind in ("manifests", "originals") for name in self._names([kb_id, kind])]
        for segment_id in self._names([kb_id, "segments"]):
            if _FOLDER_NAME.match(segment_id):
                found += [f"segments/{segment_id}/{name}" for name in self._names([kb_id, "segments", segment_id])]
        return sorted(name for name in found if _FILE_NAME.match(name))

    def remove(self, kb_id: str, names: Sequence[str]) -> int:
        """Remove files of a knowledge base for good, and the folders of segments this empties; how many were there.

        Raises: VolumeUnavailable when a file can't be removed; ValueError when a name is not one this engine makes.
        """
        removed = 0
        for name in names:
            *folders, file_name = _parts(kb_id, name)
            try:
                removed += self._remove(folders, file_name)
            except (OSError, Failpoint) as error:
                raise _translated(error, name) from error
        return removed

    def contains(self, kb_id: str, name: str, text: bytes) -> bool:
        """Whether these bytes occur in a file, whatever it is; False when it is not there.

        Raises: VolumeUnavailable when it can't be read.
        """
        with closing(self.lines_with(kb_id, name, text)) as lines:
            return next(lines, None) is not None

    def lines_with(self, kb_id: str, name: str, text: bytes) -> Generator[bytes]:
        """The lines of a file in which these bytes occur, without their ends, whatever the file is; none when it is not there.

        Close it: what is open until then is closed, which can fail.

        Raises: VolumeUnavailable when it can't be read.
        """
        *folders, file_name = _parts(kb_id, name)
        try:
            with self._folder(folders) as folder:
                descriptor = self._disk.open_file(folder, file_name)
                try:
                    yield from self._lines_with(descriptor, text)
                finally:
                    self._disk.close(descriptor)
        except OSError as error:
            if error.errno != _ABSENT:
                raise _translated(error, name) from error

    def _lines_with(self, descriptor: int, text: bytes) -> Iterator[bytes]:
        buffer, rest = bytearray(_PIECE_BYTES), b""
        while count := self._disk.read_into(descriptor, memoryview(buffer)):
            whole, _, rest = (rest + bytes(buffer[:count])).rpartition(b"\n")
            if text in whole:
                yield from (line for line in whole.split(b"\n") if text in line)
        if text in rest:
            yield rest

    def _remove(self, folders: Sequence[str], file_name: str) -> bool:
        failpoint("volume.remove")
        try:
            with self._folder(folders) as folder:
                self._disk.remove_file(folder, file_name)
                self._disk.sync_folder(folder)
        except OSError as error:
            if error.errno == _ABSENT:
                return False
            raise
        if len(folders) == 3:
            with suppress(OSError), self._folder(folders[:-1]) as parent:
                self._disk.remove_folder(parent, folders[-1])
        return True

    def _names(self, folders: Sequence[str]) -> list[str]:
        try:
            with self._folder(folders) as folder:
                return self._disk.names(folder)
        except OSError as error:
            if error.errno == _ABSENT:
                return []
            raise _translated(error, "/".join(folders) or "the volume") from error

    def self_test(self) -> VolumeReport:
        """Make, close, read and remove a file, and say how long that took and what the volume is.

        Raises: VolumeFull; VolumeUnavailable when a step fails.
        """
        started = time.perf_counter()
        name, data = random_name(), memoryview(random_name().encode() * 64)
        reference = FileRef(name, data.nbytes, hashlib.sha256(data).hexdigest())
        try:
            with self._folder([_PROBE_FOLDER], make=True) as folder:
                self._create(folder, name, data, reference)
                self._disk.remove_file(folder, name)
                free_bytes, total_bytes = self._disk.free(folder)
        except (OSError, Failpoint) as error:
            raise _translated(error, "self-test") from error
        return VolumeReport(self.kind, self.mapped, free_bytes, total_bytes, time.perf_counter() - started)

    @property
    def kind(self) -> str:
        """The file system's type, such as `ext4` or `fuse.gcsfuse`."""
        if self._kind is None:
            self._kind = file_system_kind(self.root)
        return self._kind

    @property
    def mapped(self) -> bool:
        """Whether `load` maps files into memory."""
        return self._mapping == "always" or (self._mapping == "auto" and may_map(self.kind))

    # -- folders

    @contextmanager
    def _folder(self, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder below the root, one step at a time; made where missing and asked for."""
        descriptor = self._open_root(make)
        try:
            for depth in range(1, len(names) + 1):
                below = self._enter(descriptor, tuple(names[:depth]), make)
                descriptor, above = below, descriptor
                with suppress(OSError):
                    self._disk.close(above)
            yield descriptor
        finally:
            with suppress(OSError):
                self._disk.close(descriptor)

    def _open_root(self, make: bool) -> int:
        if make and () not in self._durable:
            self._disk.make_root(self.root)
            self._remember(())
        try:
            return self._disk.open_root(self.root)
        except FileNotFoundError:
            if not make:
                raise
        self._disk.make_root(self.root)
        return self._disk.open_root(self.root)

    def _enter(self, parent: int, path: tuple[str, ...], make: bool) -> int:
        """A descriptor of the folder `path` below its open parent."""
        if make:
            self._make_durable(parent, path)
        try:
            return self._disk.open_folder(parent, path[-1])
        except FileNotFoundError:
            if not make:
                raise
        self._durable.discard(path)
        self._make_durable(parent, path)
        return self._disk.open_folder(parent, path[-1])

    def _make_durable(self, parent: int, path: tuple[str, ...]) -> None:
        """Make the folder where missing. Its entry is synced once by every process, since whoever made it may have died first."""
        if path in self._durable:
            return
        failpoint("volume.make_folder")
        self._disk.make_folder(parent, path[-1])
        failpoint("volume.sync_parent")
        self._disk.sync_folder(parent)
        self._remember(path)

    def _remember(self, path: tuple[str, ...]) -> None:
        with self._lock:
            if len(self._durable) >= _REMEMBERED_FOLDERS:
                self._durable.clear()
            self._durable.add(path)

    # -- writing

    def _require_space(self, folder: int, length_bytes: int) -> None:
        free_bytes, total_bytes = self._disk.free(folder)
        floor = min(self.floor_bytes, int(total_bytes * _FLOOR_FRACTION))
        if total_bytes and free_bytes - length_bytes < floor:
            raise OSError(errno.ENOSPC, "less than the reserved space would be left")

    def _create(self, folder: int, name: str, view: memoryview, reference: FileRef) -> None:
        failpoint("volume.create")
        descriptor = self._disk.create(folder, name)
        try:
            self._fill(descriptor, view)
            failpoint("volume.sync_folder")
            self._disk.sync_folder(folder)
            failpoint("volume.read_back")
            self._read_back(folder, name, reference)
            failpoint("volume.written")
        except BaseException:
            with suppress(OSError):
                self._disk.remove_file(folder, name)
            raise

    def _fill(self, descriptor: int, view: memoryview) -> None:
        """Write, sync and close. A close after a failure is not a retry: the name is given up."""
        try:
            self._write_all(descriptor, view)
            failpoint("volume.sync_file")
            self._disk.sync_file(descriptor)
            failpoint("volume.close")
        except BaseException:
            with suppress(OSError):
                self._disk.close(descriptor)
            raise
        self._disk.close(descriptor)

    def _write_all(self, descriptor: int, view: memoryview) -> None:
        done = 0
        while done < view.nbytes:
            failpoint("volume.write")
            count = self._disk.write(descriptor, view[done : done + _PIECE_BYTES])
            if count <= 0:
                raise OSError(errno.EIO, "nothing was written")
            done += count

    def _read_back(self, folder: int, name: str, ref: FileRef) -> None:
        """Read what was written a piece at a time: its writer still has all of it in memory."""
        found, left = hashlib.sha256(), ref.length_bytes
        buffer = memoryview(bytearray(min(_PIECE_BYTES, left)))
        with self._whole(folder, name, ref) as descriptor:
            while left:
                count = self._read_piece(descriptor, buffer[:left], ref)
                found.update(buffer[:count])
                left -= count
        _require_hash(found.hexdigest(), ref)

    # -- reading

    def _load(self, kb_id: str, ref: FileRef, *, mapped: bool) -> NDArray[np.uint8]:
        try:
            *folders, file_name = _parts(kb_id, ref.name)
        except ValueError as error:
            raise CorruptFile("a reference names no file of a knowledge base") from error
        try:
            with self._folder(folders) as folder:
                data = self._bytes_of(folder, file_name, ref, mapped=mapped)
        except OSError as error:
            raise _translated(error, ref.name) from error
        _require_hash(hashlib.sha256(data.data).hexdigest(), ref)
        if mapped:
            self._disk.unload(data)  # reading all of it for the hash says nothing about what is needed
        return data

    def _bytes_of(self, folder: int, name: str, ref: FileRef, *, mapped: bool) -> NDArray[np.uint8]:
        with self._whole(folder, name, ref) as descriptor:
            if mapped and ref.length_bytes:
                return self._disk.map(descriptor, ref.length_bytes)
            return self._private(descriptor, ref)

    @contextmanager
    def _whole(self, folder: int, name: str, ref: FileRef) -> Iterator[int]:
        """The open file. Raises: CorruptFile when it has another length than it was written with."""
        descriptor = self._disk.open_file(folder, name)
        try:
            length = self._disk.size(descriptor)
            if length != ref.length_bytes:
                raise CorruptFile(f"{ref.name} has {length} bytes instead of {ref.length_bytes}")
            yield descriptor
        finally:
            self._disk.close(descriptor)

    def _private(self, descriptor: int, ref: FileRef) -> NDArray[np.uint8]:
        data = np.empty(ref.length_bytes, dtype=np.uint8)
        view, done = data.data, 0
        while done < ref.length_bytes:
            done += self._read_piece(descriptor, view[done : done + _PIECE_BYTES], ref)
        return data

    def _read_piece(self, descriptor: int, buffer: memoryview, ref: FileRef) -> int:
        count = self._disk.read_into(descriptor, buffer)
        if count <= 0:
            raise CorruptFile(f"{ref.name} ends before its {ref.length_bytes} bytes")
        return count


def _require_hash(sha256: str, ref: FileRef) -> None:
    if sha256 != ref.sha256:
        raise CorruptFile(f"{ref.name} does not have the hash it was written with")


def _parts(kb_id: str, name: str) -> list[str]:
    """The one place where paths are made: the knowledge base's id, then the folders and file below it.

    Raises: ValueError when either is not a name this engine makes.
    """
    if not _FOLDER_NAME.match(kb_id) or not _FILE_NAME.match(name):
        raise ValueError(f"not a file of a knowledge base: {kb_id!r} {name!r}")
    return [kb_id, *name.split("/")]


def _translated(error: OSError | Failpoint, name: str) -> VolumeUnavailable:
    """The engine's error for a system error."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL:
        return VolumeFull(f"no space for {name}", retry_after_seconds=RETRY_AFTER_SECONDS)
    if code in _GONE:
        return MissingFile(f"{name} is not there", retry_after_seconds=RETRY_AFTER_SECONDS)
    if code in _MISPLACED:
        return CorruptFile(f"{name} is a link or lies where a folder should be")
    return VolumeUnavailable(f"the volume failed at {name}: {error}", retry_after_seconds=RETRY_AFTER_SECONDS)
