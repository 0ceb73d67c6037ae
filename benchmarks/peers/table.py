"""The one table: figures of every system, AgentHub's ratio to each, and the target where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.peers.rounds import Figures, Result

HUB: Final = "agenthub"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: how it is shown, and whether more of it is better. AgentHub's `own` is compared with a peer's `key`."""

    key: str
    title: str
    unit: float = 1.0
    digits: int = 0
    more_is_better: bool = True
    own: str | None = None


COLUMNS: Final = (
    Column("single@1", "queries/s at 1"),
    Column("single@8", "queries/s at 8"),
    Column("single@32", "queries/s at 32"),
    Column("filtered@8", "filtered (10 %) at 8"),
    Column("batch@1", "batch of 100, queries/s"),
    Column("ingest", "ingest, items/s"),
    Column("ingest_settled", "ingest until at rest"),
    Column("pss", "memory (PSS), MB", 1e6, more_is_better=False),
    Column("rss", "memory (RSS), MB", 1e6, more_is_better=False),
    Column("disk", "disk, MB", 1e6, more_is_better=False),
    Column("cold_start", "cold start to answer, s", 1, 2, more_is_better=False),
    Column("p50_ms:single@8", "our p99 to its p50 at 8, ms", 1, 1, more_is_better=False, own="p99_ms:single@8"),
)

TARGETS: Final[Mapping[str, Mapping[str, float]]] = {
    "chroma": {
        "single@1": 3.5,
        "single@8": 4,
        "single@32": 4,
        "filtered@8": 30,
        "batch@1": 4,
        "ingest": 4,
        "pss": 1.0,
        "disk": 0.75,
        "cold_start": 0.5,
        "p50_ms:single@8": 1.0,
    },
    "pgvector": {"single@1": 1.2, "single@8": 1.5, "single@32": 1.8, "filtered@8": 2, "ingest": 1.5},
    "faiss": {"single@1": 0.17, "single@8": 0.2, "batch@1": 0.55},
    "flask": {"single@32": 0.45},
}


@dataclass(frozen=True, slots=True)
class Ratio:
    """AgentHub's figure over a peer's, and the bound it has to reach: a lowest one, or a highest where less is better."""

    peer: str
    column: Column
    value: float
    target: float | None

    @property
    def met(self) -> bool:
        """Whether it reaches its target; without one it does."""
        if self.target is None:
            return True
        return self.value >= self.target if self.column.more_is_better else self.value <= self.target

    def text(self) -> str:
        """`4.12 (>= 4)`, with an exclamation mark when it falls short."""
        if self.target is None:
            return f"{self.value:.2f}"
        sign = ">=" if self.column.more_is_better else "<="
        return f"{self.value:.2f} ({sign} {self.target:g}){'' if self.met else ' !'}"


def ratios(results: Sequence[Result]) -> list[Ratio]:
    """AgentHub's ratio to every other system, for every figure both have."""
    hub = next((result.figures for result in results if result.name == HUB), {})
    return [
        Ratio(result.name, column, hub[column.own or column.key] / result.figures[column.key], _target(result.name, column))
        for result in results
        for column in COLUMNS
        if result.name != HUB and (column.own or column.key) in hub and result.figures.get(column.key)
    ]


def _target(peer: str, column: Column) -> float | None:
    return TARGETS.get(peer, {}).get(column.key)


def table(results: Sequence[Result], heading: str) -> str:
    """The figures and, below each peer's, AgentHub's ratio to it."""
    known = {(ratio.peer, ratio.column.key): ratio for ratio in ratios(results)}
    others = [result for result in results if result.name != HUB]
    header = ["", HUB, *(cell for result in others for cell in (result.name, "ratio"))]
    rows = [header]
    hub = next((result for result in results if result.name == HUB), None)
    for column in COLUMNS:
        cells = [column.title, _shown(hub.figures if hub else {}, column, column.own or column.key)]
        for result in others:
            ratio = known.get((result.name, column.key))
            cells += [_shown(result.figures, column, column.key), ratio.text() if ratio else "-"]
        rows.append(cells)
    rows.append(["recall@10", *_recalls(hub), *(cell for result in others for cell in (*_recalls(result), ""))])
    settings = "\n".join(f"{result.name}: {result.setting}" for result in results if result.setting)
    return f"{heading}\n{_aligned(rows)}\n{settings}"


def growth(runs: Mapping[int, Sequence[Result]]) -> str:
    """How figures grow with the number of items: of each system, at every size."""
    rows = [["system", "items", "ingest, us/item", "until at rest", "memory, kB/item", "disk, kB/item", "ms/query", "cold start, s"]]
    for count, results in sorted(runs.items()):
        rows += [_growth_row(result, count) for result in results if "ingest" in result.figures]
    return _aligned(sorted(rows[1:], key=lambda row: row[0]), rows[0])


def _growth_row(result: Result, count: int) -> list[str]:
    figures = result.figures

    def per_item(key: str, unit: float) -> str:
        return f"{figures[key] / count / unit:.2f}" if key in figures else "-"

    query = f"{1000 / figures['single@1']:.3f}" if figures.get("single@1") else "-"
    cold = f"{figures['cold_start']:.2f}" if "cold_start" in figures else "-"
    rates = [f"{1e6 / figures[key]:.0f}" for key in ("ingest", "ingest_settled")]
    return [result.name, f"{count:,}", *rates, per_item("pss", 1e3), per_item("disk", 1e3), query, cold]


def _shown(figures: Figures, column: Column, key: str) -> str:
    return f"{figures[key] / column.unit:,.{column.digits}f}" if key in figures else "-"


def _recalls(result: Result | None) -> list[str]:
    if result is None or "recall" not in result.figures:
        return ["-"]
    filtered = result.figures.get("recall_filtered")
    return [f"{result.figures['recall']:.4f}" + (f" / {filtered:.4f}" if filtered is not None else "")]


def _aligned(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> str:
    lines = [header, *rows] if header else list(rows)
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
