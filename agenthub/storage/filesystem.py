"""Where an SQLite file must not be: on file systems that lose it or break its locks (RELIABILITY.md B19)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agenthub.core.errors import SettingsError

MOUNTS: Final = Path("/proc/self/mountinfo")
OVERRIDE: Final = "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE"
_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_NETWORK: Final = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "davfs"}
)


def filesystem_type(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the file system that holds the path or its nearest existing parent; None where the machine doesn't say."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    target = os.path.realpath(path)
    best: tuple[int, str] | None = None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if os.path.commonpath([point, target]) == point and (best is None or len(point) >= best[0]):
            best = len(point), right.split()[0]
    return best[1] if best else None


def refuse_volatile(path: Path, *, on_cloud_run: bool, accept_loss: bool, mounts: Path = MOUNTS) -> None:
    """Return if an SQLite file at this path survives restarts and locks well, or the loss was accepted by name.

    Raises: SettingsError when it is on a network or memory file system, or on Cloud Run.
    """
    if accept_loss:
        return
    kind = filesystem_type(path, mounts) or ""
    if on_cloud_run:
        reason = "Cloud Run's disk is memory: the file vanishes with the instance and no other instance sees it"
    elif kind in _MEMORY:
        reason = f"{path} is on a memory file system ({kind}): it vanishes with the machine"
    elif kind in _NETWORK or kind.startswith("fuse"):
        reason = f"{path} is on a network or FUSE file system ({kind}): SQLite's write-ahead log corrupts there"
    else:
        return
    raise SettingsError([f"SQLite is refused: {reason}. Set DATABASE_URL to a PostgreSQL server, or accept the loss with {OVERRIDE}=1"])
