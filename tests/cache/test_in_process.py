"""The in-process cache keeps to its bytes and times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agenthub.cache.in_process import ENTRY_BYTES, InProcessCache


class HandClock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def room(entries: int, value_bytes: int = 100) -> int:
    return entries * (ENTRY_BYTES + 1 + value_bytes)


def test_entries_expire_and_are_counted_as_misses() -> None:
    clock = HandClock()
    cache = InProcessCache(10_000, clock)
    cache.set_many({"a": b"1"}, 5)
    clock.seconds += 4.9
    assert cache.get_many(["a"]) == {"a": b"1"}
    clock.seconds += 0.1
    assert cache.get_many(["a"]) == {}
    assert cache.add("a", b"2", 5)
    assert (cache.statistics().hits, cache.statistics().misses, cache.statistics().entries) == (1, 1, 1)


def test_the_least_recently_used_goes_first() -> None:
    cache = InProcessCache(room(3))
    cache.set_many(dict.fromkeys("abc", b"v" * 100), 60)
    cache.get_many(["a"])
    cache.set_many({"d": b"v" * 100}, 60)
    assert set(cache.get_many(["a", "b", "c", "d"])) == {"a", "c", "d"}
    assert cache.statistics().evictions == 1


def test_the_bytes_are_never_exceeded_and_come_back() -> None:
    cache = InProcessCache(5_000)
    for number in range(500):
        cache.set_many({str(number % 37): b"v" * (number * 7 % 900)}, 60)
        size = cache.statistics().size_bytes
        assert size is not None
        assert size <= 5_000
    kept = cache.get_many([str(number) for number in range(37)])
    assert cache.statistics().size_bytes == sum(len(key) + len(value) + ENTRY_BYTES for key, value in kept.items())
    for key in kept:
        cache.add(key, b"", 60)
    cache.close()
    assert cache.statistics().size_bytes == 0


def test_an_entry_larger_than_the_cache_evicts_nothing() -> None:
    cache = InProcessCache(room(2))
    cache.set_many({"a": b"v" * 100}, 60)
    cache.set_many({"b": b"v" * 5_000}, 60)
    assert set(cache.get_many(["a", "b"])) == {"a"}


def test_no_room_is_a_cache_that_always_misses() -> None:
    cache = InProcessCache(0)
    cache.set_many({"a": b""}, 60)
    assert cache.get_many(["a"]) == {}
    with pytest.raises(ValueError, match="negative"):
        InProcessCache(-1)
