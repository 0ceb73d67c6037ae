"""What a process and all that it started hold in memory, watched for its peak."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LINE = re.compile(r"^(Pss|Pss_Anon|Pss_Shmem):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of a tree: `pss` in all, pages shared with others in parts; `own` without pages of files, which the system may drop."""

    pss: int
    own: int


def descendants(pid: int) -> list[int]:
    """The process and its children, and theirs; those that are gone are left out."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                with suppress(OSError):
                    found += [int(child) for child in children.read_text().split()]
    return found


def held(pid: int) -> Held:
    """What the tree holds now."""
    pss = own = 0
    for one in descendants(pid):
        with suppress(OSError):
            sizes = {name: 1024 * int(size) for name, size in _LINE.findall(Path(f"/proc/{one}/smaps_rollup").read_text())}
            pss += sizes.get("Pss", 0)
            own += sizes.get("Pss_Anon", 0) + sizes.get("Pss_Shmem", 0)
    return Held(pss, own)


class TreeWatch:
    """The most that a tree held while the block ran, asked twenty times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak = Held(0, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            now = held(self._pid)
            self.peak = Held(max(self.peak.pss, now.pss), max(self.peak.own, now.own))
