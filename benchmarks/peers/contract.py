"""What every system under test can do, and the figures that are taken of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from benchmarks.peers.workload import Workload

Kind = Literal["single", "filtered", "batch"]
"""One query, one query among a tenth of the items, or a hundred queries in one request."""

BATCH: Final = 100
TOP_K: Final = 10
RECALL_TARGET: Final = 0.99


class BenchmarkFailure(Exception):
    """A system could not be measured; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many connections that each ask again as soon as they are answered, for so long."""

    kind: Kind
    connections: int
    seconds: float

    @property
    def name(self) -> str:
        """`single@8`: the key of its figures."""
        return f"{self.kind}@{self.connections}"


@dataclass(frozen=True, slots=True)
class Rate:
    """What one load gave. Percentiles are None where the generator doesn't tell; `generator_cpu` is its share of one CPU."""

    queries_per_second: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    generator_cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """Seconds until every item was acknowledged and found, and until background work on them had ended too."""

    searchable_seconds: float
    settled_seconds: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """Recall@10 against exact search, unfiltered and filtered, and the setting that gives it."""

    recall: float
    filtered_recall: float | None
    setting: str


class Peer(Protocol):
    """A system under test: started empty, filled once, asked often."""

    name: str
    loads: frozenset[Kind]
    folder: Path | None
    """What it keeps on disk; None when nothing."""

    def start(self) -> None:
        """Start it, over the data it had when it was stopped."""
        ...

    def stop(self) -> None:
        """Stop it cleanly; a second call does nothing."""
        ...

    def ingest(self, workload: Workload) -> Ingested | None:
        """Bring all items in; None for a system that keeps none."""
        ...

    def tune(self, workload: Workload, /) -> Tuned | None:
        """The cheapest setting that reaches the recall target stays in force."""
        ...

    def measure(self, load: Load) -> Rate:
        """The rate under one load."""
        ...

    def answer_once(self) -> None:
        """Ask one query. Raises: OSError or BenchmarkFailure while it isn't answered in full."""
        ...

    def process_ids(self) -> list[int]:
        """The processes that serve."""
        ...
