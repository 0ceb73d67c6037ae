"""Which kind of file system a path is on, and whether its files may be memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
_MAPPABLE: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "bcachefs"})


def file_system_kind(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that holds `path`, such as `ext4`, `nfs4` or `fuse.gcsfuse`; `unknown` if not told."""
    target = os.path.realpath(path)
    best, kind = -1, "unknown"
    for point, found in _mounts(mounts):
        if len(point) >= best and os.path.commonpath([point, target]) == point:
            best, kind = len(point), found
    return kind


def may_map(kind: str) -> bool:
    """Whether pages of such a file stay readable: not on FUSE, NFS or anything unknown, where a removed or shortened
    file kills the reading process.
    """
    return kind in _MAPPABLE


def _mounts(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        left, separator, right = line.partition(" - ")
        fields = left.split()
        if separator and len(fields) > 4 and right:
            found.append((fields[4].replace("\\040", " "), right.split()[0]))
    return found
