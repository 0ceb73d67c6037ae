"""How well AgentHub finds what is relevant, measured through its HTTP API.

    python -m benchmarks.retrieval --start
    python -m benchmarks.retrieval --url http://localhost:5000 --collection cranfield

Every document becomes one chunk of a new knowledge base, every query is asked in every mode, and nDCG@10 is compared with what
the design demands. The exit status is 1 when a figure is below its target or the server fails, 2 when an argument is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.retrieval.client import BenchmarkFailure, Client
from benchmarks.retrieval.collections import Collection, load_collection, mean_ndcg
from benchmarks.retrieval.server import ROOT, temporary_server

MODES: Final = ("semantic", "keyword", "hybrid")
TARGETS: Final = {
    ("cranfield", "semantic"): 0.49,
    ("cranfield", "hybrid"): 0.545,
    ("xquad-en", "semantic"): 0.93,
    ("xquad-en", "hybrid"): 0.97,
}
COLLECTIONS: Final = ("cranfield", "xquad-en")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement."""

    collection: str
    mode: str
    ndcg: float
    query_seconds: float

    @property
    def target(self) -> float | None:
        """The least that is acceptable; None where nothing is demanded."""
        return TARGETS.get((self.collection, self.mode))

    @property
    def passed(self) -> bool:
        """Whether the target is reached."""
        return self.target is None or self.ndcg >= self.target


def measure(client: Client, collection: Collection) -> list[Figure]:
    """Index the collection in a knowledge base of its own, ask everything in every mode, and delete it again.

    Raises: BenchmarkFailure when the server does not keep to its contract.
    """
    figures = []
    with client.knowledge_base(f"benchmark {collection.name}") as knowledge_base:
        start = time.perf_counter()
        client.add_chunks(knowledge_base, collection.documents)
        print(f"{collection.name}: {len(collection.documents)} documents indexed in {time.perf_counter() - start:.1f} s", flush=True)
        for mode in MODES:
            start = time.perf_counter()
            rankings = client.rankings(knowledge_base, collection.queries, mode)
            seconds = (time.perf_counter() - start) / len(collection.queries)
            figures.append(Figure(collection.name, mode, mean_ndcg(rankings, collection), seconds))
    return figures


def report(figures: Sequence[Figure]) -> str:
    """The table of all figures with their targets."""
    lines = [f"{'collection':<16}{'mode':<10}{'nDCG@10':>8}{'target':>8}{'ms/query':>10}"]
    for figure in figures:
        target = "-" if figure.target is None else f"{figure.target:.3f}"
        verdict = "" if figure.passed else "  BELOW TARGET"
        lines.append(f"{figure.collection:<16}{figure.mode:<10}{figure.ndcg:>8.4f}{target:>8}{figure.query_seconds * 1000:>10.2f}{verdict}")
    return "\n".join(lines)


def run(url: str, email: str, password: str, collections: Sequence[Collection]) -> int:
    """Measure against a running server; the exit status."""
    client = Client(url)
    try:
        client.login(email, password)
        figures = [figure for collection in collections for figure in measure(client, collection)]
    except BenchmarkFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        client.close()
    print(report(figures))
    return 0 if all(figure.passed for figure in figures) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, measure, print; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        collections = [load_collection(options.data / name) for name in options.collection or COLLECTIONS]
    except (OSError, ValueError, KeyError) as error:
        print(f"a collection can't be read: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if not options.start:
        return run(options.url, options.email, options.password, collections)
    try:
        with temporary_server() as server:
            return run(server.url, server.email, server.password, collections)
    except BenchmarkFailure as failure:
        print(failure, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description="nDCG@10 through AgentHub's HTTP API.")
    parser.add_argument("--url", default="http://localhost:5000", help="a running server (default: %(default)s)")
    parser.add_argument("--start", action="store_true", help="start a server of its own with empty data instead")
    parser.add_argument("--collection", action="append", metavar="NAME", help="a folder of --data, may be repeated (default: both)")
    parser.add_argument("--data", type=Path, default=_data(), help="where the collections are (default: %(default)s)")
    parser.add_argument("--email", default=os.environ.get("AGENTHUB_BENCH_EMAIL", "owner@agenthub.com"), help="or AGENTHUB_BENCH_EMAIL")
    parser.add_argument("--password", default=os.environ.get("AGENTHUB_BENCH_PASSWORD", "password"), help="or AGENTHUB_BENCH_PASSWORD")
    return parser


def _data() -> Path:
    return Path(os.environ.get("AGENTHUB_BENCH_DATA", ROOT.parent / "shared" / "data"))


if __name__ == "__main__":
    sys.exit(main())
