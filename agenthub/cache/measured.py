"""A cache that says what it does, by kind of entry."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from agenthub.cache.contract import Cache, CacheStatistics, ServerStatistics
from agenthub.core.observe import Observer


class MeasuredCache:
    """Implements `Cache` before another one: `cache_total` (hit, miss), `cache_bytes_total` (read, written), `cache_seconds`."""

    def __init__(self, inner: Cache, observer: Observer) -> None:
        self._inner = inner
        self._observer = observer

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Cache.get_many`. Keys of one call are of one kind."""
        started = time.perf_counter()
        found = self._inner.get_many(keys)
        kind = _kind(keys)
        self._observer.time("cache_seconds", time.perf_counter() - started, kind=kind, operation="get")
        self._count("cache_total", len(found), kind=kind, result="hit")
        self._count("cache_total", len(set(keys)) - len(found), kind=kind, result="miss")
        self._count("cache_bytes_total", sum(map(len, found.values())), kind=kind, direction="read")
        return found

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Cache.set_many`."""
        started = time.perf_counter()
        self._inner.set_many(items, ttl_seconds)
        kind = _kind(items)
        self._observer.time("cache_seconds", time.perf_counter() - started, kind=kind, operation="set")
        self._count("cache_bytes_total", sum(map(len, items.values())), kind=kind, direction="written")

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Cache.add`."""
        return self._inner.add(key, value, ttl_seconds)

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        """See `Cache.increment`."""
        started = time.perf_counter()
        total = self._inner.increment(key, amount, ttl_seconds)
        self._observer.time("cache_seconds", time.perf_counter() - started, kind=_kind([key]), operation="increment")
        if total is None:
            self._count("cache_total", 1, kind=_kind([key]), result="failure")
        return total

    def flush(self, namespace: str) -> bool:
        """See `Cache.flush`."""
        return self._inner.flush(namespace)

    def statistics(self) -> CacheStatistics:
        """See `Cache.statistics`."""
        return self._inner.statistics()

    def check(self) -> tuple[ServerStatistics, ...]:
        """See `Cache.check`."""
        return self._inner.check()

    def close(self) -> None:
        """See `Cache.close`."""
        self._inner.close()

    def _count(self, name: str, amount: int, **labels: str) -> None:
        if amount:
            self._observer.count(name, amount, **labels)


def _kind(keys: Iterable[str]) -> str:
    """The second part of a key's namespace, `deployment.kind.version`."""
    namespace = next(iter(keys), "").partition("/")[0].split(".")
    return namespace[1] if len(namespace) == 3 else "none"
