"""A cache that says what it does, by kind of entry."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from agenthub.cache.contract import Cache, CacheStatistics, KindStatistics, ServerStatistics
from agenthub.cache.keys import kind_of
from agenthub.core.observe import Observer

_FIELDS: Final[Mapping[tuple[str, str], str]] = {
    ("cache_total", "hit"): "hits",
    ("cache_total", "miss"): "misses",
    ("cache_bytes_total", "read"): "read_bytes",
    ("cache_bytes_total", "written"): "written_bytes",
    ("cache_errors_total", "failed"): "errors",
    ("cache_errors_total", "down"): "errors",
    ("cache_errors_total", "forged"): "forged",
}
"""Where a count goes, by its name and its label beside `kind`."""
_WHOLE: Final = tuple(field.name for field in fields(KindStatistics) if field.name not in ("kind", "seconds"))


class KindTally:
    """An `Observer` of a cache that remembers by kind of entry what it passes on."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._totals: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))

    def count(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """See `Observer.count`."""
        self._observer.count(name, amount, **labels)
        kind = labels["kind"]
        for label, value in labels.items():
            if label != "kind" and (name, value) in _FIELDS:
                with self._lock:
                    self._totals[kind][_FIELDS[name, value]] += amount

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        """See `Observer.time`."""
        self._observer.time(name, seconds, **labels)
        with self._lock:
            totals = self._totals[labels["kind"]]
            totals["operations"] += 1
            totals["seconds"] += seconds

    def kinds(self) -> tuple[KindStatistics, ...]:
        """Each kind that was used, by name."""
        with self._lock:
            totals = {kind: dict(found) for kind, found in self._totals.items() if kind != "none"}
        return tuple(_statistics(kind, found) for kind, found in sorted(totals.items()))


def _statistics(kind: str, totals: Mapping[str, float]) -> KindStatistics:
    numbers: dict[str, Any] = {name: int(totals.get(name, 0)) for name in _WHOLE}
    return KindStatistics(kind, **numbers, seconds=totals.get("seconds", 0.0))


class MeasuredCache:
    """Implements `Cache` before another one: `cache_total` (hit, miss), `cache_bytes_total` (read, written), `cache_seconds`."""

    def __init__(self, inner: Cache, tally: KindTally) -> None:
        self._inner = inner
        self._tally = tally

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Cache.get_many`. Keys of one call are of one kind."""
        started = time.perf_counter()
        found = self._inner.get_many(keys)
        kind = _kind(keys)
        self._tally.time("cache_seconds", time.perf_counter() - started, kind=kind, operation="get")
        self._count("cache_total", len(found), kind=kind, result="hit")
        self._count("cache_total", len(set(keys)) - len(found), kind=kind, result="miss")
        self._count("cache_bytes_total", sum(map(len, found.values())), kind=kind, direction="read")
        return found

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Cache.set_many`."""
        started = time.perf_counter()
        self._inner.set_many(items, ttl_seconds)
        kind = _kind(list(items))
        self._tally.time("cache_seconds", time.perf_counter() - started, kind=kind, operation="set")
        self._count("cache_bytes_total", sum(map(len, items.values())), kind=kind, direction="written")

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Cache.add`."""
        started = time.perf_counter()
        kept = self._inner.add(key, value, ttl_seconds)
        self._tally.time("cache_seconds", time.perf_counter() - started, kind=kind_of(key), operation="add")
        self._count("cache_bytes_total", len(value) if kept else 0, kind=kind_of(key), direction="written")
        return kept

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        """See `Cache.increment`."""
        started = time.perf_counter()
        total = self._inner.increment(key, amount, ttl_seconds)
        self._tally.time("cache_seconds", time.perf_counter() - started, kind=kind_of(key), operation="increment")
        return total

    def flush(self, namespace: str) -> bool:
        """See `Cache.flush`."""
        return self._inner.flush(namespace)

    def statistics(self) -> CacheStatistics:
        """See `Cache.statistics`, with what this process did by kind."""
        return replace(self._inner.statistics(), kinds=self._tally.kinds())

    def check(self) -> tuple[ServerStatistics, ...]:
        """See `Cache.check`."""
        return self._inner.check()

    def close(self) -> None:
        """See `Cache.close`."""
        self._inner.close()

    def _count(self, name: str, amount: int, **labels: str) -> None:
        if amount:
            self._tally.count(name, amount, **labels)


def _kind(keys: Sequence[str]) -> str:
    return kind_of(keys[0]) if keys else "none"
