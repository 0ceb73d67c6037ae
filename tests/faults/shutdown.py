"""A file system on a loop file, and its power cut: EXT4_IOC_SHUTDOWN (or XFS's) without flushing the log. Linux, root."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

SHUTDOWN: Final = 0x8004587D
"""_IOR('X', 125, __u32): the same number for ext4 and XFS."""
NO_LOG_FLUSH: Final = 2
_MEBIBYTES: Final = {"ext4": 48, "xfs": 320}


class NoLoopFileSystem(Exception):
    """This machine or user can't mount a file system on a loop file; the message says why."""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise NoLoopFileSystem(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class LoopFileSystem:
    """A file system of its own below `folder`, to be cut off and mounted again.

    Raises: NoLoopFileSystem when it can't be made.
    """

    def __init__(self, folder: Path, kind: str = "ext4") -> None:
        if os.geteuid() != 0:
            raise NoLoopFileSystem("mounting takes root")
        if shutil.which(f"mkfs.{kind}") is None:
            raise NoLoopFileSystem(f"mkfs.{kind} is not installed")
        self.kind = kind
        self.image = folder / f"{kind}.image"
        self.mounted = folder / f"{kind}.mounted"
        self.mounted.mkdir()
        with self.image.open("wb") as image:
            image.truncate(_MEBIBYTES[kind] * 1024 * 1024)
        _run(f"mkfs.{kind}", "-q", str(self.image))
        self._device = ""
        self.mount()

    def mount(self) -> None:
        """Attach and mount; the journal is replayed."""
        self._device = _run("losetup", "--find", "--show", str(self.image)).strip()
        try:
            _run("mount", "-t", self.kind, self._device, str(self.mounted))
            self._guard()
        except BaseException:
            self.close()
            raise

    def _guard(self) -> None:
        """What is about to be shut down is our loop device and nothing else: a mount that failed silently would be the root disk."""
        device = Path(self._device).stat().st_rdev
        here, above = self.mounted.stat().st_dev, self.mounted.parent.stat().st_dev
        if not re.fullmatch(r"/dev/loop\d+", self._device) or here == above or here != device:
            raise NoLoopFileSystem(f"{self.mounted} is not on {self._device}: it will not be shut down")

    def cut(self) -> None:
        """The power goes: whatever is not on the disk, the log included, is lost."""
        self._guard()
        descriptor = os.open(self.mounted, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if os.fstat(descriptor).st_dev != Path(self._device).stat().st_rdev:
                raise NoLoopFileSystem("the folder is on another device than a moment ago")
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def come_back(self) -> None:
        """Unmount what was cut off and mount it as after a restart. Nobody may have a file open there."""
        self.close()
        self.mount()

    def close(self) -> None:
        """Unmount and give the loop device back."""
        if self._device:
            for _ in range(50):
                done = subprocess.run(["umount", str(self.mounted)], capture_output=True, text=True, check=False)
                if done.returncode == 0 or "not mounted" in done.stderr:
                    break
                time.sleep(0.1)
            with suppress(NoLoopFileSystem):
                _run("losetup", "--detach", self._device)
            self._device = ""
