"""The peers' benchmark computes what it says: exact answers, recall, medians, ratios and verdicts."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import __main__ as benchmark
from benchmarks.peers.contract import BenchmarkFailure, Ingested, Kind, Load, Rate, Tuned
from benchmarks.peers.http_load import _rate
from benchmarks.peers.pgvector import _row
from benchmarks.peers.processes import await_idle, cpu_seconds, disk_bytes, family, memory_bytes
from benchmarks.peers.rounds import Plan, Result, run
from benchmarks.peers.table import growth, ratios, table
from benchmarks.peers.workload import WANTED_CATEGORY, Workload, item_number, make_workload, recall


@pytest.fixture(scope="module")
def workload() -> Workload:
    return make_workload(1500)


def test_a_workload_is_the_same_every_time_and_its_answers_are_exact(workload: Workload) -> None:
    again = make_workload(1500)
    assert np.array_equal(again.vectors, workload.vectors) and again.item(7) == workload.item(7)
    assert np.allclose(np.linalg.norm(workload.vectors, axis=1), 1, atol=1e-5)
    scores = workload.queries @ workload.vectors.T
    assert np.array_equal(np.argsort(-scores, axis=1)[:, :10], workload.nearest)
    assert (workload.categories[workload.nearest_filtered] == WANTED_CATEGORY).all()
    assert len(workload.item(3).text) == 500 and item_number(workload.item(3).id) == 3


def test_batches_are_all_items_in_order(workload: Workload) -> None:
    batches = list(workload.batches(400))
    assert [len(items) for items, _ in batches] == [400, 400, 400, 300]
    assert [item_number(item.id) for items, _ in batches for item in items] == list(range(1500))


def test_recall_counts_what_was_found(workload: Workload) -> None:
    perfect = workload.nearest.tolist()
    assert recall(perfect, workload.nearest) == 1
    assert recall([[*one[:5], -1, -2, -3, -4, -5] for one in perfect], workload.nearest) == pytest.approx(0.5)


def test_a_failed_request_fails_the_load() -> None:
    seen = {"requests": 200, "duration_us": 2_000_000, "bytes": 1, "failed": 0, "p50_us": 900, "p99_us": 4000, "max_us": 1}
    assert _rate(seen, Load("batch", 1, 2), 0.1) == Rate(10_000, 0.9, 4.0, 0.05)
    with pytest.raises(BenchmarkFailure, match="1 of 200"):
        _rate(seen | {"failed": 1}, Load("single", 8, 2), 0.1)


def test_a_row_is_in_the_binary_form_of_copy(workload: Workload) -> None:
    row = _row(workload.item(0), workload.vectors[0])
    assert struct.unpack(">hi", row[:6]) == (5, len("item-00000000"))
    assert np.array_equal(np.frombuffer(row[-384 * 4 :], dtype=">f4"), workload.vectors[0])


def test_processes_are_weighed(tmp_path: Path) -> None:
    assert os.getpid() in family(os.getppid())
    weighed = memory_bytes([os.getpid()])
    assert weighed["rss"] >= weighed["pss"] > 1_000_000
    (tmp_path / "file").write_bytes(b"x" * 10_000)
    assert disk_bytes(tmp_path) >= 10_000
    assert cpu_seconds([os.getpid(), 2**22 + 1]).keys() == {os.getpid()}  # one that has ended is left out
    await_idle(list, 1, 0.01)


class FakePeer:
    """Answers at a rate that is known."""

    loads: frozenset[Kind] = frozenset({"single", "batch"})

    def __init__(self, name: str, rate: float, folder: Path | None = None, recall_found: float = 1.0) -> None:
        self.name, self.rate, self.folder, self.recall_found = name, rate, folder, recall_found
        self.running = False
        self.measured: list[str] = []

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def ingest(self, workload: Workload) -> Ingested | None:
        return Ingested(len(workload) / self.rate, len(workload) / self.rate * 2)

    def tune(self, workload: Workload) -> Tuned | None:
        return Tuned(self.recall_found, None, "as it is")

    def measure(self, load: Load) -> Rate:
        assert self.running
        self.measured.append(load.name)
        return Rate(self.rate, 1.0, 2.0)

    def answer_once(self) -> None:
        if not self.running:
            raise OSError

    def process_ids(self) -> list[int]:
        return [os.getpid()]


def test_a_run_measures_in_turn_and_stops_everything(workload: Workload, tmp_path: Path) -> None:
    hub, chroma = FakePeer("agenthub", 100, tmp_path), FakePeer("chroma", 40, tmp_path)
    results = run([hub, chroma], workload, Plan(2, 1))
    assert len(hub.measured) == 3 * 4  # a round to warm up and two that count, without filtered loads
    assert hub.measured == chroma.measured
    assert not hub.running and not chroma.running
    figures = results[0].figures
    assert figures["single@8"] == 100 and "filtered@8" not in figures
    assert figures["ingest"] == pytest.approx(100) and figures["ingest_settled"] == pytest.approx(50)
    assert figures["cold_start"] >= 0 and figures["disk"] >= 0
    found = {ratio.column.key: ratio for ratio in ratios(results)}
    assert found["single@8"].value == 2.5 and not found["single@8"].met
    assert found["p50_ms:single@8"].value == 2.0 and not found["p50_ms:single@8"].met
    assert found["pss"].value == pytest.approx(1, rel=0.2)


def test_a_failure_stops_everything_too(workload: Workload) -> None:
    class Broken(FakePeer):
        def measure(self, load: Load) -> Rate:
            raise BenchmarkFailure("refused")

    peers = [FakePeer("agenthub", 1), Broken("chroma", 1)]
    with pytest.raises(BenchmarkFailure, match="chroma, single@1: refused"):
        run(peers, workload, Plan(1, 1))
    assert not any(peer.running for peer in peers)


def result(name: str, **figures: float) -> Result:
    return Result(name, "set", {key.replace("_at_", "@"): value for key, value in figures.items()})


def test_the_table_marks_what_falls_short() -> None:
    results = [result("agenthub", single_at_1=700, pss=100e6, recall=0.995), result("chroma", single_at_1=100, pss=50e6, recall=0.99)]
    text = table(results, "heading")
    assert "7.00 (>= 3.5)" in text and "7.00 (>= 3.5) !" not in text
    assert "2.00 (<= 1) !" in text and "0.9950" in text


def test_growth_is_per_item() -> None:
    figures = {"ingest": 1000.0, "ingest_settled": 500.0, "pss": 2e6, "disk": 4e6}
    text = growth({1000: [Result("agenthub", figures=figures)], 2000: [Result("agenthub", figures=figures)]})
    assert [line.split()[1:6] for line in text.splitlines()[1:]] == [
        ["1,000", "1000", "2000", "2.00", "4.00"],
        ["2,000", "1000", "2000", "1.00", "2.00"],
    ]


def test_the_exit_status_is_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    speed = {"value": 100.0}

    def at_size(count: int, options: Any, environment: Path, folder: Path) -> list[Result]:
        return [result("agenthub", single_at_32=speed["value"]), result("flask", single_at_32=200)]

    monkeypatch.setattr(benchmark, "_at_size", at_size)
    monkeypatch.setattr(benchmark, "installed_peers", lambda folder: folder)
    monkeypatch.setattr(benchmark, "wrk_program", lambda: "wrk")
    arguments = ["--items", "1000,2000", "--folder", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    speed["value"] = 50
    assert benchmark.main(arguments) == 1
    assert "(>= 0.45) !" in capsys.readouterr().out
    saved = json.loads(next((tmp_path / "results").iterdir()).read_text())
    assert set(saved["runs"]) == {"1000", "2000"}


def test_a_missing_generator_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert benchmark.main(["--folder", str(tmp_path)]) == 2
    assert "apt-get install" in capsys.readouterr().err
