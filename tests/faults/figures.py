"""What a fault harness reports: how often it interfered, what it did, what went wrong, and the seed that repeats it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_SHOWN = 20


@dataclass
class Figures:
    """The figures of one run."""

    harness: str
    seed: int
    injections: int = 0
    operations: int = 0
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def expect(self, condition: bool, what: str) -> None:
        """Note a violation unless the condition holds."""
        if not condition:
            self.violations.append(what)

    def line(self) -> str:
        """The report, one line of JSON."""
        fields = {
            "harness": self.harness,
            "seed": self.seed,
            "injections": self.injections,
            "operations": self.operations,
            "violations": len(self.violations),
            "first_violations": self.violations[:_SHOWN],
            **dict(sorted(self.counts.items())),
        }
        return json.dumps(fields)

    def finish(self) -> int:
        """Print the report; the exit status."""
        sys.stdout.write(self.line() + "\n")
        return 1 if self.violations else 0


def run_harness(module: str, *arguments: str | Path | int, timeout_seconds: float = 280) -> dict[str, Any]:
    """Run a harness in a process of its own, so that a crash is seen; returns its figures, which must show no violation."""
    figures = harness_figures(module, *arguments, timeout_seconds=timeout_seconds)
    assert figures["violations"] == 0, figures
    return figures


def harness_figures(module: str, *arguments: str | Path | int, timeout_seconds: float = 280, **environment: str) -> dict[str, Any]:
    """As `run_harness`, whatever the figures show."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )
    assert ended.returncode in (0, 1) and ended.stdout, f"exit {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    sys.stdout.write(ended.stdout.splitlines()[-1] + "\n")
    return figures
