"""`python -m benchmarks.peers`: AgentHub against Chroma, pgvector, raw FAISS and a bare Flask route, in one run and one table.

Traffic goes to servers of this run on the loopback interface only. Raw results are written as JSON beside the peers' virtualenv.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.bare_flask import BareFlask
from benchmarks.peers.chroma import Chroma
from benchmarks.peers.contract import BenchmarkFailure, Peer
from benchmarks.peers.http_load import wrk_program
from benchmarks.peers.hub import AgentHub
from benchmarks.peers.installing import installed_peers
from benchmarks.peers.pgvector import Pgvector
from benchmarks.peers.raw_faiss import RawFaiss
from benchmarks.peers.rounds import Plan, Result, run
from benchmarks.peers.table import growth, ratios, table
from benchmarks.peers.workload import DIMENSION, make_workload

NAMES: Final = ("agenthub", "chroma", "pgvector", "faiss", "flask")
INGEST_CLIENTS: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when every ratio reaches its target, 1 when one falls short, 2 when it could not be measured."""
    options = _options(arguments)
    folder: Path = options.folder
    runs: dict[int, list[Result]] = {}
    try:
        wrk_program()
        environment = installed_peers(folder)
        for count in options.items:
            runs[count] = _at_size(count, options, environment, folder)
            print("\n" + table(runs[count], _heading(count, options)), flush=True)
            _save(folder / "results", runs, options)
    except BenchmarkFailure as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 2
    if len(runs) > 1:
        print("\nGrowth\n" + growth(runs))
    short = [ratio for results in runs.values() for ratio in ratios(results) if not ratio.met]
    return 1 if short else 0


def _at_size(count: int, options: argparse.Namespace, environment: Path, folder: Path) -> list[Result]:
    workload = make_workload(count)
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # PostgreSQL runs as another user when we are root
        peers = [_peer(chosen, scratch, environment) for chosen in options.only]
        try:
            return run(peers, workload, Plan(options.rounds, options.seconds))
        except BenchmarkFailure as error:
            ends = [f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in scratch.glob("*.log")]
            raise BenchmarkFailure("\n".join([str(error), *ends])) from error


def _peer(name: str, scratch: Path, environment: Path) -> Peer:
    if name == "agenthub":
        return AgentHub(scratch, INGEST_CLIENTS)
    if name == "chroma":
        return Chroma(scratch, INGEST_CLIENTS, environment)
    if name == "pgvector":
        return Pgvector(scratch, environment)
    return RawFaiss(scratch, environment) if name == "faiss" else BareFlask(scratch, INGEST_CLIENTS)


def _heading(count: int, options: argparse.Namespace) -> str:
    machine = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    return f"{count:,} items of {DIMENSION} dimensions, median of {options.rounds} rounds of {options.seconds:.0f} s; {machine}"


def _save(folder: Path, runs: dict[int, list[Result]], options: argparse.Namespace) -> None:
    folder.mkdir(exist_ok=True)
    told: dict[str, Any] = {
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "runs": {str(count): [asdict(result) for result in results] for count, results in runs.items()},
    }
    path = folder / f"{options.started}.json"
    path.write_text(json.dumps(told, indent=1))
    print(f"raw results: {path}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--items", type=_sizes, default=[100_000], metavar="N[,N…]", help="how many items; several for growth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load lasts")
    parser.add_argument("--only", type=_names, default=list(NAMES), metavar="NAME[,NAME…]", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="10,000 items, one round of 3 s: to try it")
    parser.add_argument("--growth", action="store_true", help="10,000, then 100,000 items")
    parser.add_argument("--million", action="store_true", help="a million items as well; takes hours and 20 GB")
    default_folder = Path(tempfile.gettempdir()) / "agenthub-bench"
    parser.add_argument("--folder", type=Path, default=default_folder, help="peers' virtualenv and results; others must be able to read it")
    options = parser.parse_args(arguments)
    options.started = time.strftime("%Y%m%d-%H%M%S")
    if options.quick:
        options.items, options.rounds, options.seconds = [10_000], 1, 3.0
    if options.growth:
        options.items = [10_000, 100_000]
    if options.million:
        options.items = [*options.items, 1_000_000]
    return options


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",")]
    if not all(1_000 <= size <= 2_000_000 for size in sizes):
        raise argparse.ArgumentTypeError("1,000 to 2,000,000 items")
    return sizes


def _names(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(NAMES):
        raise argparse.ArgumentTypeError(f"choose among {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
