"""What was asked before is remembered for a while, in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime

from agenthub.cache.repeats import MAX_KEYS, Repeats


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def test_the_second_time_is_a_repeat() -> None:
    repeats = Repeats(600)
    assert [repeats.note(key) for key in ("a", "b", "a", "a")] == [False, False, True, True]


def test_it_is_remembered_for_one_to_two_spans() -> None:
    clock = HandClock()
    repeats = Repeats(600, clock)
    repeats.note("a")
    clock.seconds = 601
    assert repeats.note("a")
    clock.seconds = 1202
    assert repeats.note("a"), "it was noted again in the span before"
    clock.seconds = 1803
    repeats.note("b")
    clock.seconds = 2404
    assert not repeats.note("a")


def test_a_flood_of_others_is_bounded() -> None:
    repeats = Repeats(600, HandClock())
    for number in range(5 * MAX_KEYS):
        repeats.note(str(number))
    assert len(repeats._now) + len(repeats._before) <= 2 * MAX_KEYS
    assert repeats.note(str(5 * MAX_KEYS - 1))
    assert not repeats.note("0")
