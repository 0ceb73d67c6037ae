"""Raw FAISS: the graph alone in a process of its own, asked by threads. It keeps no texts, nothing on disk, and serves nobody."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.peers.contract import RECALL_TARGET, BenchmarkFailure, Ingested, Kind, Load, Rate, Tuned
from benchmarks.peers.installing import python_of
from benchmarks.peers.processes import inherited
from benchmarks.peers.workload import Workload

DEPTHS: Final = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1200)
PROGRAM: Final = Path(__file__).with_name("faiss_program.py")


class RawFaiss:
    """`IndexHNSWFlat` with 16 neighbours; one OpenMP thread for single queries, two for batches."""

    name = "faiss"
    loads: frozenset[Kind] = frozenset({"single", "batch"})
    folder: Path | None = None

    def __init__(self, scratch: Path, environment: Path) -> None:
        self.scratch = scratch
        self._python = python_of(environment)
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = inherited() | {"OMP_NUM_THREADS": "1"}
        command = [self._python, str(PROGRAM), str(self.scratch)]
        self._child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> None:
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
            self._child.wait(60)
            self._child = None

    def ingest(self, workload: Workload) -> Ingested:
        np.save(self.scratch / "vectors.npy", workload.vectors)
        np.save(self.scratch / "queries.npy", workload.queries)
        np.save(self.scratch / "nearest.npy", workload.nearest)
        seconds = float(self._ask(do="build")["seconds"])
        return Ingested(seconds, seconds)

    def tune(self, _workload: Workload) -> Tuned:
        """Raise efSearch until the recall reaches the target."""
        for depth in DEPTHS:
            found = float(self._ask(do="tune", depth=depth)["recall"])
            if found >= RECALL_TARGET:
                return Tuned(found, None, f"efSearch {depth}")
        raise BenchmarkFailure("raw FAISS does not reach the recall target")

    def measure(self, load: Load) -> Rate:
        return Rate(float(self._ask(do=load.kind, threads=load.connections, seconds=load.seconds)["rate"]))

    def answer_once(self) -> None:
        self._ask(do="single", threads=1, seconds=0)

    def process_ids(self) -> list[int]:
        return [self._child.pid] if self._child is not None else []

    def _ask(self, **command: Any) -> dict[str, Any]:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise BenchmarkFailure("raw FAISS was not started")
        child.stdin.write(json.dumps(command) + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if not answer:
            raise BenchmarkFailure("the FAISS process ended")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed
