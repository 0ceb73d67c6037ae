"""Counting requests: exactly for small limits, together over processes, alone while the cache is down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from agenthub.cache.in_process import InProcessCache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.limits import RateLimits, Subject


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0 - 1_800_000_000.0 % 60

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Down(InProcessCache):
    """A cache that can't tell."""

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        return None


FIVE = Subject("key", "k", 5)


def test_the_limit_is_let_in_and_not_one_more() -> None:
    clock = Clock()
    limits = RateLimits(InProcessCache(1 << 20), CacheKeys(), clock)
    assert [limits.count([FIVE]).exceeded for _ in range(7)] == [False] * 5 + [True] * 2
    assert not limits.count([Subject("key", "other", 5)]).exceeded
    clock.seconds += 59
    assert (limits.count([FIVE]).exceeded, limits.count([FIVE]).reset_seconds) == (True, 1)
    clock.seconds += 1
    assert limits.count([FIVE]).remaining == 4


def test_two_processes_count_together() -> None:
    clock, cache = Clock(), InProcessCache(1 << 20)
    one, other = (RateLimits(cache, CacheKeys(), clock) for _ in range(2))
    seen = [limits.count([FIVE]).exceeded for limits in (one, other, one, other, one, other, one)]
    assert seen == [False] * 5 + [True] * 2


def test_a_large_limit_is_shared_in_steps_and_each_second() -> None:
    clock, cache = Clock(), InProcessCache(1 << 20)
    one, other = (RateLimits(cache, CacheKeys(), clock) for _ in range(2))
    large = Subject("user", "u", 2000)
    for _ in range(1000):
        one.count([large])
    assert 980 <= 2000 - other.count([large]).remaining <= 1001
    clock.seconds += 1
    one.count([large])
    clock.seconds += 1
    assert 2000 - other.count([large]).remaining == 1003


def test_without_the_cache_each_process_holds_the_limit() -> None:
    limits = RateLimits(Down(0), CacheKeys(), Clock())
    assert [limits.count([FIVE]).exceeded for _ in range(6)] == [False] * 5 + [True]


def test_threads_lose_no_count() -> None:
    limits = RateLimits(InProcessCache(1 << 20), CacheKeys(), Clock())
    many = Subject("address", "a", 400)
    with ThreadPoolExecutor(8) as pool:
        exceeded = list(pool.map(lambda _: limits.count([many]).exceeded, range(500)))
    assert sum(exceeded) == 100


def test_the_one_with_the_least_left_stands() -> None:
    limits = RateLimits(InProcessCache(1 << 20), CacheKeys(), Clock())
    assert limits.count([FIVE, Subject("organization", "o", 3)]).subject.scope == "organization"
