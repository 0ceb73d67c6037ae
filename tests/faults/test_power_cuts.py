"""T4: the power is cut at every step; what was acknowledged is there afterwards, what was not is absent or whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.figures import harness_figures, run_harness
from tests.faults.shutdown import LoopFileSystem, NoLoopFileSystem
from tests.faults.test_safeguards import after_a_power_cut
from tests.rag.fault_volume import FaultDisk


def reason_against(folder: Path, kind: str) -> str | None:
    """Why the power can't be cut here; None when it can."""
    probe = folder / "probe"
    probe.mkdir()
    try:
        LoopFileSystem(probe, kind).close()
    except NoLoopFileSystem as error:
        return str(error)
    return None


def test_a_few_cuts_lose_nothing(tmp_path: Path) -> None:
    """Where no loop file system can be mounted, a disk that forgets what was not synced stands in for the power cut."""
    reason = reason_against(tmp_path, "ext4")
    if reason is None:
        figures = run_harness("tests.faults.power_cuts", "ext4", 12, 17, tmp_path)
        assert figures["injections"] >= 12
        return
    sys.stdout.write(f"no power cut on a real file system: {reason}\n")
    for at in range(20, 260, 20):
        assert after_a_power_cut(tmp_path / str(at), FaultDisk("crash", at)) == []


def test_cuts_without_fsync_are_seen_to_lose(tmp_path: Path) -> None:
    reason = reason_against(tmp_path, "ext4")
    if reason is None:
        assert harness_figures("tests.faults.power_cuts", "ext4", 20, 1000, tmp_path, "unsynced")["violations"] > 0


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_500_cuts_lose_nothing(kind: str, tmp_path: Path) -> None:
    reason = reason_against(tmp_path, kind)
    assert reason is None, f"power cuts need root and loop devices: {reason}"
    figures = run_harness("tests.faults.power_cuts", kind, 500, 3, tmp_path, timeout_seconds=2900)
    assert figures["injections"] >= 500
