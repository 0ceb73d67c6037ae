"""The system calls the volume is made of, one method each, so that a test can fail any of them."""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})


class Disk:
    """Plain POSIX calls. Every method raises OSError as the system gave it."""

    def open_root(self, root: Path) -> int:
        """A descriptor of the volume's folder, which the operator may have made a link."""
        return os.open(root, _FOLDER)

    def make_root(self, root: Path) -> None:
        """Make the volume's folder and its parents where missing, and sync its entry if we may read its parent."""
        missing = [folder for folder in root.parents if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
        for folder in (root, *missing):
            with suppress(PermissionError):
                self._sync_entry(folder)

    def _sync_entry(self, path: Path) -> None:
        descriptor = os.open(path.parent, _FOLDER)
        try:
            self.sync_folder(descriptor)
        finally:
            os.close(descriptor)

    def open_folder(self, parent: int, name: str) -> int:
        """A descriptor of a folder directly below `parent`; a link is refused."""
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)

    def make_folder(self, parent: int, name: str) -> bool:
        """Make a folder directly below `parent`; False when it is there already."""
        try:
            os.mkdir(name, 0o750, dir_fd=parent)
        except FileExistsError:
            return False
        return True

    def create(self, folder: int, name: str) -> int:
        """A descriptor for writing a file that did not exist."""
        return os.open(name, _NEW_FILE, 0o640, dir_fd=folder)

    def write(self, descriptor: int, data: memoryview) -> int:
        """How many of the bytes were written: perhaps not all."""
        return os.write(descriptor, data)

    def sync_file(self, descriptor: int) -> None:
        """Return when the file's bytes are durable."""
        os.fsync(descriptor)

    def sync_folder(self, descriptor: int) -> None:
        """Return when the folder's entries are durable, or where the file system has no such call."""
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise

    def close(self, descriptor: int) -> None:
        """Close; on a mounted bucket or NFS this is where a write may fail."""
        os.close(descriptor)

    def open_file(self, folder: int, name: str) -> int:
        """A descriptor for reading; a link is refused."""
        return os.open(name, _OLD_FILE, dir_fd=folder)

    def size(self, descriptor: int) -> int:
        """The file's length in bytes."""
        return os.fstat(descriptor).st_size

    def read_into(self, descriptor: int, buffer: memoryview) -> int:
        """How many bytes were read into the buffer; 0 at the end of the file."""
        return os.readv(descriptor, [buffer])

    def map(self, descriptor: int, length: int) -> NDArray[np.uint8]:
        """The file's bytes as shared, read-only memory; `length` is above 0."""
        return np.frombuffer(mmap.mmap(descriptor, length, prot=mmap.PROT_READ), dtype=np.uint8)

    def unload(self, data: NDArray[np.uint8]) -> None:
        """Take the pages of a map out of this process; they come back, from the system's memory, when they are read."""
        base: object = data.base
        mapped = base.obj if isinstance(base, memoryview) else base
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)

    def remove_file(self, folder: int, name: str) -> None:
        """Remove one name."""
        os.unlink(name, dir_fd=folder)

    def remove_folder(self, parent: int, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=parent)

    def names(self, folder: int) -> list[str]:
        """What is directly in a folder, in no order."""
        return os.listdir(folder)

    def free(self, descriptor: int) -> tuple[int, int]:
        """Bytes free to us and bytes in all; (0, 0) where the file system doesn't know."""
        stat = os.fstatvfs(descriptor)
        return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
