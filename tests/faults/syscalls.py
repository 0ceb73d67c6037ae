"""T3: real system calls fail, by strace's injection, at the 1st to the k-th call on the volume during one write.

Usage: `python -m tests.faults.syscalls RUNS SEED FOLDER`. The write is acknowledged or refused; whichever it says must be so afterwards.
A run that strace kills (`signal=KILL`) says nothing: then the write is there in full or not at all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.faults.figures import Figures

OLD: Final = {"old": ["the old text"]}
BOTH: Final = OLD | {"new": ["the new text"]}
INJECTIONS: Final = (
    ("openat", "error=EIO", 60),
    ("openat", "error=ENOSPC", 60),
    ("write", "error=EIO", 8),
    ("write", "error=ENOSPC", 8),
    ("write", "retval=1", 8),
    ("fsync", "error=EIO", 16),
    ("fsync", "error=ENOSPC", 16),
    ("close", "error=EIO", 60),
    ("unlink,unlinkat", "error=EIO", 2),
    ("fsync", "signal=KILL", 16),
    ("write", "signal=KILL", 8),
)
"""Call, what happens to it, and among how many calls of the write one is chosen."""


def act(action: str, folder: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "tests.faults.traced", action, str(folder)]
    return subprocess.run(command, env=os.environ.copy(), capture_output=True, text=True, timeout=120, check=False)


def said(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    told: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return told


def calls_before(prepared: Path, folder: Path) -> Counter[str]:
    """How many calls of each kind a process makes before its write begins: starting Python opens many files."""
    shutil.copytree(prepared, folder)
    trace = folder / "trace"
    calls = ",".join(dict.fromkeys(call for call, _, _ in INJECTIONS))
    act("write", folder, "strace", "-f", "-q", "-o", str(trace), "-e", f"trace={calls}")
    before = trace.read_text().partition("/ready")[0]
    return Counter(line.split()[1].partition("(")[0] for line in before.splitlines() if "(" in line)


def one(figures: Figures, prepared: Path, folder: Path, injection: tuple[str, str, int], number: int) -> None:
    call, effect, _ = injection
    shutil.copytree(prepared, folder)
    where = f"{call} {effect} #{number}"
    trace = folder / "trace"
    options = ("-f", "-q", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{effect}:when={number}")
    ended = act("write", folder, "strace", *options)
    told = said(ended)
    injected = "INJECTED" in trace.read_text() or "killed by SIGKILL" in trace.read_text()
    if not (folder / "ready").exists():
        figures.counts["before the write"] += 1
        return
    figures.injections += injected
    figures.operations += 1
    after = said(act("check", folder))
    figures.counts["acknowledged" if told.get("acknowledged") else "refused" if told else "killed"] += 1
    allowed = [BOTH] if told.get("acknowledged") else [OLD, BOTH] if not told or told.get("refused") == "OutcomeUnknown" else [OLD]
    figures.expect(after.get("content") in allowed, f"{where}: {told} and then {after.get('content')}")
    figures.expect(after.get("problems") == [], f"{where}: {after.get('problems')}")


def main(runs: int, seed: int, folder: Path) -> int:
    figures, chooser = Figures("T3 failing system calls", seed), random.Random(seed)
    prepared = folder / "prepared"
    prepared.mkdir()
    assert act("prepare", prepared).returncode == 0
    before = calls_before(prepared, folder / "counting")
    for number in range(runs):
        injection = INJECTIONS[number % len(INJECTIONS)]
        place = before[injection[0].partition(",")[0]] + chooser.randint(1, injection[2])
        one(figures, prepared, folder / str(number), injection, place)
        shutil.rmtree(folder / str(number))
    return figures.finish()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
