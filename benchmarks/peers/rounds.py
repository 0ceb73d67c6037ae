"""One run at one size: every system filled and tuned, then all of them measured in turn, round after round."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.peers.contract import RECALL_TARGET, BenchmarkFailure, Kind, Load, Peer, Rate
from benchmarks.peers.processes import disk_bytes, memory_bytes
from benchmarks.peers.workload import Workload

SHAPES: Final[tuple[tuple[Kind, int], ...]] = (("single", 1), ("single", 8), ("single", 32), ("filtered", 8), ("batch", 1))
"""What is asked, over how many connections."""

COLD_START_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.01
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: loads of so many seconds, so many times, and as many cold starts."""

    rounds: int
    seconds: float


@dataclass(slots=True)
class Result:
    """What is known of one system. `figures` are medians; `raw` is all that was seen, for the file."""

    name: str
    setting: str = ""
    figures: Figures = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


def run(peers: Sequence[Peer], workload: Workload, plan: Plan) -> list[Result]:
    """The results of all systems over one workload. All are stopped when this returns.

    Raises: BenchmarkFailure naming the system that could not be measured.
    """
    results = [Result(peer.name) for peer in peers]
    try:
        for peer, result in zip(peers, results, strict=True):
            _fill(peer, workload, result)
        _measure_in_turn(peers, results, plan)
        for peer, result in zip(peers, results, strict=True):
            _weigh(peer, result, len(workload), plan.rounds)
    finally:
        for peer in peers:
            peer.stop()
    return results


def _fill(peer: Peer, workload: Workload, result: Result) -> None:
    peer.start()
    _say(f"{peer.name}: filling")
    ingested = peer.ingest(workload)
    if ingested is not None:
        result.figures["ingest"] = len(workload) / ingested.searchable_seconds
        result.figures["ingest_settled"] = len(workload) / ingested.settled_seconds
    tuned = peer.tune(workload)
    if tuned is None:
        return
    result.setting = tuned.setting
    result.figures["recall"] = tuned.recall
    if tuned.filtered_recall is not None:
        result.figures["recall_filtered"] = tuned.filtered_recall
    _say(f"{peer.name}: recall {tuned.recall:.4f}, filtered {tuned.filtered_recall}, {tuned.setting}")
    if min(tuned.recall, tuned.filtered_recall or 1.0) < RECALL_TARGET:
        result.raw["warning"] = f"recall below {RECALL_TARGET}"


def _measure_in_turn(peers: Sequence[Peer], results: Sequence[Result], plan: Plan) -> None:
    seen: dict[tuple[str, str], list[Rate]] = {}
    for number in range(plan.rounds + 1):  # the first one warms up and isn't counted
        for kind, connections in SHAPES:
            load = Load(kind, connections, plan.seconds if number else 1)
            for peer in peers:
                if kind not in peer.loads:
                    continue
                rate = _measured(peer, load)
                if number:
                    seen.setdefault((peer.name, load.name), []).append(rate)
                    _say(f"round {number} {load.name:12} {peer.name:10} {rate.queries_per_second:9.0f}/s  load {os.getloadavg()[0]:.1f}")
    for result in results:
        _summarize(result, {load: rates for (name, load), rates in seen.items() if name == result.name})


def _measured(peer: Peer, load: Load) -> Rate:
    try:
        return peer.measure(load)
    except BenchmarkFailure as error:
        raise BenchmarkFailure(f"{peer.name}, {load.name}: {error}") from error


def _summarize(result: Result, rates: dict[str, list[Rate]]) -> None:
    for load, several in rates.items():
        result.figures[load] = median(rate.queries_per_second for rate in several)
        for name in ("p50_ms", "p99_ms", "generator_cpu"):
            known = [value for value in (getattr(rate, name) for rate in several) if value is not None]
            if known:
                result.figures[f"{name}:{load}"] = median(known)
        result.raw[load] = [rate.queries_per_second for rate in several]


def _weigh(peer: Peer, result: Result, count: int, starts: int) -> None:
    """Memory after the loads, disk after a clean stop, and the time from a start to the first answer."""
    for name, size in memory_bytes(peer.process_ids()).items():
        result.figures[name] = size
    peer.stop()
    if peer.folder is None:
        return
    result.figures["disk"] = disk_bytes(peer.folder)
    result.figures["pss_per_item"] = result.figures["pss"] / count
    seconds = []
    for _ in range(starts):
        started = time.perf_counter()
        peer.start()
        _await_answer(peer)
        seconds.append(time.perf_counter() - started)
        peer.stop()
    result.figures["cold_start"] = median(seconds)
    result.raw["cold_start"] = seconds


def _await_answer(peer: Peer) -> None:
    end = time.monotonic() + COLD_START_SECONDS
    while time.monotonic() < end:
        try:
            peer.answer_once()
        except (OSError, BenchmarkFailure):
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise BenchmarkFailure(f"{peer.name} did not answer within {COLD_START_SECONDS:.0f} s of its start")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
