"""`python -m benchmarks.cache`: what the cache is worth, as ratios of one run: with it and without it, warm and cold.

Everything runs on this machine: two gunicorn workers, PostgreSQL, memcached, and wrk with eight connections.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.cache import figures
from benchmarks.cache.figures import Figures
from benchmarks.cache.replica import Deployment, Replica, deployment
from benchmarks.peers.contract import BenchmarkFailure
from benchmarks.peers.http_load import wrk_program
from benchmarks.peers.workload import make_workload

REST_SECONDS: Final = 8.0
NOOP: Final = "benchmarks.cache.noop_app:app"


@dataclass(frozen=True, slots=True)
class Line:
    """One ratio: the figure above over the one below, and its bound: a least one, or a greatest where `most` is set."""

    title: str
    above: str
    below: str | None
    target: float | None
    most: bool = False

    def value(self, seen: Figures) -> float:
        """The ratio, or the figure itself where it stands alone."""
        return seen[self.above] / (seen[self.below] if self.below else 1.0)

    def met(self, seen: Figures) -> bool:
        """Whether it keeps its bound."""
        if self.target is None:
            return True
        return self.value(seen) <= self.target if self.most else self.value(seen) >= self.target


LINES: Final = (
    Line("100 new texts over 100 known ones, ms", "embed_new_ms", "embed_known_ms", 20),
    Line("round trips a server for 100 known texts", "round_trips", None, 1, most=True),
    Line("repeated hybrid search, cached over not, requests/s", "hybrid_repeated_on", "hybrid_repeated_off", 1.5),
    Line("repeated semantic search, cached over not, requests/s", "semantic_repeated_on", "semantic_repeated_off", 1.5),
    Line("hybrid search never asked before, cache on over off", "hybrid_miss_on", "hybrid_miss_off", 0.95),
    Line("semantic search never asked before, cache on over off", "semantic_miss_on", "semantic_miss_off", 0.95),
    Line("no-op: cost signed in over cost for everyone", "noop_public", "noop_signed-in", 1.3, most=True),
    Line("statements of a warm signed-in search on PostgreSQL", "statements", None, 1, most=True),
    Line("first search after a start, cold over warmed, ms", "first_cold_ms", "first_warmed_ms", None),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when every ratio keeps its bound, 1 when one doesn't, 2 when it could not be measured."""
    options = _options(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        wrk_program()
        with tempfile.TemporaryDirectory(prefix="cache-", dir=options.folder) as name:
            scratch = Path(name)
            scratch.chmod(0o755)  # PostgreSQL runs as another user when we are root
            seen = _measured(scratch, options)
    except BenchmarkFailure as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 2
    print("\n" + table(seen, _heading(options)))
    results = options.folder / "results"
    results.mkdir(exist_ok=True)
    path = results / f"cache-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(seen, indent=1))
    print(f"raw results: {path}")
    return 0 if all(line.met(seen) for line in LINES) else 1


def table(seen: Figures, heading: str) -> str:
    """Every ratio with the two figures it comes from and its bound; an exclamation mark where it is not kept."""
    rows = [("", "figure", "over", "ratio", "bound")]
    for line in LINES:
        below = f"{seen[line.below]:,.2f}" if line.below else ""
        bound = "" if line.target is None else f"{'<=' if line.most else '>='} {line.target:g}{'' if line.met(seen) else ' !'}"
        rows.append((line.title, f"{seen[line.above]:,.2f}", below, f"{line.value(seen):.2f}", bound))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join([heading, *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)])


def _measured(scratch: Path, options: argparse.Namespace) -> Figures:
    workload = make_workload(options.chunks)
    seen = figures.round_trips(workload)
    _say("round trips counted")
    with deployment(scratch) as deployed:
        on, off = Replica(deployed, "on", AGENTHUB_RESULT_CACHE="on"), Replica(deployed, "off", AGENTHUB_RESULT_CACHE="off")
        try:
            on.open(workload)
            off.join(on)
            _say(f"{options.chunks:,} chunks are in")
            seen |= figures.searches(on, off, workload, options.rounds, options.seconds)
            _say("searches measured")
            seen |= figures.embeddings(on, workload, options.rounds)
            seen |= figures.statements(deployed.postgresql, on, workload)
            _say("embeddings and statements measured")
            figures.await_record(deployed.postgresql)
        finally:
            on.stop()
            off.stop()
        seen |= _alone(deployed, on, workload, options)
    return seen


def _alone(deployed: Deployment, filled: Replica, workload: object, options: argparse.Namespace) -> Figures:
    """What is measured with one server running."""
    warm = Replica(deployed, "warm", AGENTHUB_WARMING="on", WEB_CONCURRENCY="1")
    cold = Replica(deployed, "cold", AGENTHUB_WARMING="off", WEB_CONCURRENCY="1")
    noop = Replica(deployed, "noop", application=NOOP)
    try:
        seen = figures.first_searches((("cold", cold), ("warmed", warm)), filled, workload, REST_SECONDS)  # type: ignore[arg-type]
        noop.join(filled)
        return seen | figures.noops(noop, options.rounds, options.seconds)
    finally:
        for replica in (warm, cold, noop):
            replica.stop()


def _heading(options: argparse.Namespace) -> str:
    machine = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    return f"The cache at {options.chunks:,} chunks, median of {options.rounds} rounds of {options.seconds:.0f} s; {machine}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each load lasts")
    parser.add_argument("--quick", action="store_true", help="10,000 chunks, one round of 2 s: to try it")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "agenthub-bench")
    options = parser.parse_args(arguments)
    if options.quick:
        options.chunks, options.rounds, options.seconds = 10_000, 1, 2.0
    return options


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
