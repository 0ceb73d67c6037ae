"""Server processes: started apart from ours, stopped cleanly, measured from /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.peers.contract import BenchmarkFailure

ROOT: Final = Path(__file__).parents[2]
STOP_SECONDS: Final = 60.0
IDLE_SHARE: Final = 0.05
_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")


class Process:
    """One server and its children, in a process group of its own."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], user: str | None = None) -> None:
        self.log = log
        group = {"user": user, "group": user, "extra_groups": []} if user else {}
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                cwd=ROOT if user is None else "/",
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **group,  # type: ignore[call-overload]
            )

    @property
    def id(self) -> int:
        """Its process id."""
        return int(self._child.pid)

    def check(self) -> None:
        """Raises: BenchmarkFailure with the end of its log when it has ended."""
        if self._child.poll() is not None:
            raise BenchmarkFailure(f"a server ended:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and end it after a minute."""
        if self._child.poll() is not None:
            return
        self._child.send_signal(number)
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()


def family(process_id: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [process_id]
    for known in found:
        found += children.get(known, [])
    return found


def memory_bytes(process_ids: Sequence[int]) -> dict[str, int]:
    """Resident (`rss`) and proportional (`pss`, what several share counted once) memory of these processes together."""
    totals = {"rss": 0, "pss": 0}
    for process_id in process_ids:
        for line in _told(process_id, "smaps_rollup").splitlines():
            name, _, rest = line.partition(":")
            if name.lower() in totals:
                totals[name.lower()] += int(rest.split()[0]) * 1024
    return totals


def cpu_seconds(process_ids: Sequence[int]) -> dict[int, float]:
    """Processor time that each of these processes has used, without those that have ended."""
    told = {process_id: _told(process_id, "stat").rpartition(")")[2].split() for process_id in process_ids}
    return {process_id: (int(fields[11]) + int(fields[12])) * _TICK_SECONDS for process_id, fields in told.items() if fields}


def await_idle(process_ids: Callable[[], Sequence[int]], limit_seconds: float, quiet_seconds: float = 3.0) -> None:
    """Return when these processes, old and new, use next to no processor time: what they do in the background is done.

    Raises: BenchmarkFailure when they are still at it after the limit.
    """
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        before = cpu_seconds(process_ids())
        time.sleep(quiet_seconds)
        used = sum(seconds - before.get(process_id, 0.0) for process_id, seconds in cpu_seconds(process_ids()).items())
        if used <= IDLE_SHARE * quiet_seconds:
            return
    raise BenchmarkFailure(f"a server was still busy {limit_seconds:.0f} s after the last write")


def _told(process_id: int, name: str) -> str:
    """What /proc tells of a process; nothing when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process_id}/{name}").read_text()
    return ""


def disk_bytes(folder: Path) -> int:
    """What a folder takes on disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def inherited() -> dict[str, str]:
    """What servers get of our environment: nothing that configures them."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "OPENBLAS_CORETYPE") if name in os.environ}
