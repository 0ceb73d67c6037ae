"""What the cache does is counted by kind of entry."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from agenthub.cache.contract import KindStatistics
from agenthub.cache.fleet import Fleet
from agenthub.cache.in_process import InProcessCache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.measured import KindTally, MeasuredCache
from agenthub.cache.sealed import SealedCache
from agenthub.cache.server import Server
from agenthub.core.observe import Unobserved
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
    cache = MeasuredCache(InProcessCache(1 << 20), KindTally(seen))
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


def test_statistics_say_the_same_by_kind() -> None:
    cache = MeasuredCache(InProcessCache(1 << 20), KindTally(Unobserved()))
    a, b = (KEYS.key(TenantId("t"), "embedding", 1, name) for name in "ab")
    cache.set_many({a: b"12345"}, 60)
    cache.get_many([a, b])
    assert cache.add(KEYS.key(TenantId("t"), "result", 1, "r"), b"123", 60)
    assert cache.get_many([]) == {}
    embedding, result = (replace(kind, seconds=0.0) for kind in cache.statistics().kinds)
    assert embedding == KindStatistics("embedding", hits=1, misses=1, read_bytes=5, written_bytes=5, operations=2)
    assert result == KindStatistics("result", written_bytes=3, operations=1)


class Broken:
    """A server's driver that fails whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        if name == "close":
            return lambda: None
        raise ConnectionError(name)


def test_what_fails_and_what_is_not_asked_is_counted_by_kind() -> None:
    seen = Seen()
    tally = KindTally(seen)
    cache = MeasuredCache(SealedCache(Fleet("memcached", [Server("a:1", Broken)], tally), b"0123456789abcdef", tally), tally)
    key = KEYS.key(TenantId("t"), "embedding", 1, "a")
    assert cache.get_many([key]) == {}
    assert cache.get_many([key]) == {}
    assert cache.increment(KEYS.key(TenantId("t"), "rate", 1, "x"), 1, 60) is None
    cache.close()
    assert seen.counts["cache_errors_total", "embedding", "failed"] == 1
    assert seen.counts["cache_errors_total", "embedding", "down"] == 1
    assert seen.counts["cache_errors_total", "rate", "down"] == 1
    assert [(kind.kind, kind.errors) for kind in cache.statistics().kinds] == [("embedding", 2), ("rate", 1)]


def test_what_is_not_ours_is_counted_by_kind() -> None:
    seen, inner = Seen(), InProcessCache(1 << 20)
    tally = KindTally(seen)
    cache = MeasuredCache(SealedCache(inner, b"0123456789abcdef", tally), tally)
    key = KEYS.key(TenantId("t"), "result", 1, "a")
    inner.set_many({key: b"garbage"}, 60)
    assert cache.get_many([key]) == {}
    assert seen.counts["cache_errors_total", "result", "forged"] == 1
    (result,) = cache.statistics().kinds
    assert (result.hits, result.misses, result.forged) == (0, 1, 1)
