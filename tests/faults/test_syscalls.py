"""T3: real system calls that fail; a write that says yes is there, one that says no is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.figures import run_harness

SEED = 3


def reason_against() -> str | None:
    """Why strace can't be used here; None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-q", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


@pytest.mark.timeout(280)
def test_a_few_failing_system_calls_are_refused_or_survived(tmp_path: Path) -> None:
    """Where processes may not be traced, tests/rag/test_engine_faults.py stands for it: every call of the volume fails there."""
    reason = reason_against()
    if reason is None:
        assert run_harness("tests.faults.syscalls", 6, SEED, tmp_path)["operations"] >= 3
    else:
        sys.stdout.write(f"no failing system calls: {reason}\n")


@pytest.mark.torture
@pytest.mark.timeout(3000)
def test_many_failing_system_calls_are_refused_or_survived(tmp_path: Path) -> None:
    reason = reason_against()
    assert reason is None, f"failing system calls need strace: {reason}"
    assert run_harness("tests.faults.syscalls", 220, SEED + 1, tmp_path, timeout_seconds=2900)["injections"] >= 100
