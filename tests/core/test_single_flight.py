"""Of many that miss the same value one makes it; nobody waits for ever, and nobody for one who waits for him."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from agenthub.core.single_flight import SingleFlight


class Maker:
    """Makes each value from its key, when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.failing = False

    def __call__(self, keys: Sequence[str]) -> dict[str, str]:
        self.asked.append(tuple(keys))
        self.entered.set()
        assert self.go.wait(20)
        if self.failing:
            raise RuntimeError("no")
        return {key: key.upper() for key in keys}


def test_who_asks_meanwhile_waits_for_his_share_and_makes_the_rest() -> None:
    flights: SingleFlight[str] = SingleFlight()
    first, second = Maker(), Maker()
    second.go.set()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(flights.get_many, ["a", "b"], first)
        assert first.entered.wait(20)
        other = pool.submit(flights.get_many, ["b", "c"], second)
        assert second.entered.wait(20)
        first.go.set()
        assert one.result(20) == {"a": "A", "b": "B"}
        assert other.result(20) == {"c": "C", "b": "B"}
    assert (first.asked, second.asked) == ([("a", "b")], [("c",)])


def test_those_who_wait_for_a_failure_make_it_themselves() -> None:
    flights: SingleFlight[str] = SingleFlight()
    first, second = Maker(), Maker()
    first.failing = True
    second.go.set()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(flights.get_many, ["a"], first)
        assert first.entered.wait(20)
        other = pool.submit(flights.get_many, ["a"], second)
        first.go.set()
        with pytest.raises(RuntimeError):
            one.result(20)
        assert other.result(20) == {"a": "A"}
    assert second.asked == [("a",)]


def test_nobody_waits_longer_than_the_patience() -> None:
    flights: SingleFlight[str] = SingleFlight(patience_seconds=2)
    first, second = Maker(), Maker()
    second.go.set()
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(flights.get_many, ["a", "b", "c"], first)
        assert first.entered.wait(20)
        started = time.monotonic()
        assert flights.get_many(["c", "b", "a"], second) == {"a": "A", "b": "B", "c": "C"}
        assert time.monotonic() - started < 5.8, "one patience, not one for each key"
        first.go.set()
        assert one.result(20) == {"a": "A", "b": "B", "c": "C"}


def test_crossing_requests_do_not_wait_for_one_another() -> None:
    flights: SingleFlight[str] = SingleFlight(patience_seconds=600)

    def ask(seed: int) -> bool:
        keys = [str((seed * 3 + step) % 7) for step in range(5)]
        return all(
            flights.get_many(keys if seed % 2 else keys[::-1], lambda missing: {key: key for key in missing}) == {key: key for key in keys}
            for _ in range(200)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8), timeout=300))


def test_a_value_is_made_again_once_it_was_delivered() -> None:
    flights: SingleFlight[str] = SingleFlight()
    made = iter("12")
    assert [flights.get("a", lambda: next(made)) for _ in range(2)] == ["1", "2"]
