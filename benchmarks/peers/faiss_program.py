"""Runs in the peers' virtualenv: builds a graph and measures it, by commands on standard input, a line of JSON each."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

_native: Any = faiss
BATCH = 100
TOP_K = 10


class Program:
    """One index and what is asked of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: Any = None
        self._queries: Any = None

    def run(self, command: dict[str, Any]) -> dict[str, float]:
        """The answer to one command."""
        if command["do"] == "build":
            return self._build()
        if command["do"] == "tune":
            return self._tune(command["depth"])
        if command["do"] == "batch":
            return self._batches(command["seconds"])
        return self._singles(command["threads"], command["seconds"])

    def _build(self) -> dict[str, float]:
        vectors = np.load(self._folder / "vectors.npy")
        self._queries = np.load(self._folder / "queries.npy")
        _native.omp_set_num_threads(2)
        started = time.perf_counter()
        self._index = _native.IndexHNSWFlat(vectors.shape[1], 16, _native.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = 100
        self._index.add(vectors)
        return {"seconds": time.perf_counter() - started}

    def _tune(self, depth: int) -> dict[str, float]:
        nearest = np.load(self._folder / "nearest.npy")
        self._index.hnsw.efSearch = depth
        _, found = self._index.search(self._queries, TOP_K)
        return {"recall": sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), nearest.tolist(), strict=True)) / nearest.size}

    def _singles(self, threads: int, seconds: float) -> dict[str, float]:
        counts = [0] * threads
        end = time.perf_counter() + seconds

        def work(number: int) -> None:
            _native.omp_set_num_threads(1)
            while True:
                at = (counts[number] + number) % len(self._queries)
                self._index.search(self._queries[at : at + 1], TOP_K)
                counts[number] += 1
                if time.perf_counter() >= end:
                    return

        started = time.perf_counter()
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"rate": sum(counts) / (time.perf_counter() - started)}

    def _batches(self, seconds: float) -> dict[str, float]:
        _native.omp_set_num_threads(2)
        count = 0
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            self._index.search(self._queries[:BATCH], TOP_K)
            count += BATCH
        return {"rate": count / (time.perf_counter() - started)}


def main() -> None:
    """Answer commands until there are no more."""
    program = Program(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(program.run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
