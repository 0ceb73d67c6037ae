"""What the cache does is counted by kind of entry."""

from __future__ import annotations

from collections import Counter

from agenthub.cache.in_process import InProcessCache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.measured import MeasuredCache
from agenthub.core.types import TenantId

KEYS = CacheKeys()


class Seen:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.timed: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        self.counts[name, *labels.values()] += int(amount)

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        assert seconds >= 0
        self.timed[name, *labels.values()] += 1


def test_hits_misses_and_bytes_are_counted_by_kind() -> None:
    seen = Seen()
    cache = MeasuredCache(InProcessCache(1 << 20), seen)
    a, b = (KEYS.key(TenantId("t"), "embedding", 1, name) for name in "ab")
    cache.set_many({a: b"12345"}, 60)
    assert cache.get_many([a, b]) == {a: b"12345"}
    cache.increment(KEYS.key(TenantId("t"), "rate", 1, "x"), 1, 60)
    assert seen.counts == {
        ("cache_bytes_total", "embedding", "written"): 5,
        ("cache_total", "embedding", "hit"): 1,
        ("cache_total", "embedding", "miss"): 1,
        ("cache_bytes_total", "embedding", "read"): 5,
    }
    assert seen.timed == {
        ("cache_seconds", "embedding", "set"): 1,
        ("cache_seconds", "embedding", "get"): 1,
        ("cache_seconds", "rate", "increment"): 1,
    }


def test_a_counter_that_can_not_be_shared_is_a_failure() -> None:
    seen = Seen()
    cache = MeasuredCache(InProcessCache(0), seen)
    assert cache.increment(KEYS.key(TenantId("t"), "rate", 1, "x"), 1, 60) is None
    assert seen.counts == {("cache_total", "rate", "failure"): 1}
    assert cache.get_many([]) == {}
