"""A cache in this process's memory, bounded by bytes: the least recently used goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.cache.contract import MAX_VALUE_BYTES, CacheStatistics, ServerStatistics, checked_ttl_seconds
from agenthub.core.clock import Clock, SystemClock

ENTRY_BYTES: Final = 300  # what an entry takes beside key and value: two objects, a dictionary slot

_COUNTER: Final = "#"  # ends the names of counters, so that they are no entries


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    expires: float  # by the clock's monotonic seconds
    size: int


class InProcessCache:
    """Implements `Cache`. Never holds more than `max_bytes`, its own bookkeeping included."""

    def __init__(self, max_bytes: int, clock: Clock | None = None) -> None:
        """Raises: ValueError when `max_bytes` is negative."""
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative: {max_bytes}")
        self._max_bytes = max_bytes
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._size = self._hits = self._misses = self._evictions = 0
        self._closed = False

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Cache.get_many`."""
        wanted = dict.fromkeys(keys)
        with self._lock:
            found = {key: entry.value for key in wanted if (entry := self._live(key))}
            for key in found:
                self._entries.move_to_end(key)
            self._hits += len(found)
            self._misses += len(wanted) - len(found)
        return found

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Cache.set_many`."""
        expires = self._clock.monotonic() + checked_ttl_seconds(ttl_seconds)
        with self._lock:
            for key, value in items.items():
                self._put(key, value, expires)

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Cache.add`."""
        expires = self._clock.monotonic() + checked_ttl_seconds(ttl_seconds)
        with self._lock:
            if self._live(key):
                return False
            return self._put(key, value, expires)

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        """See `Cache.increment`."""
        now, ttl_seconds = self._clock.monotonic(), checked_ttl_seconds(ttl_seconds)
        key += _COUNTER
        with self._lock:
            entry = self._live(key)
            total = amount + (int(entry.value) if entry else 0)
            return total if self._put(key, b"%d" % total, entry.expires if entry else now + ttl_seconds) else None

    def flush(self, namespace: str) -> bool:
        """See `Cache.flush`."""
        prefix = namespace + "/"
        with self._lock:
            for key in [key for key in self._entries if key.startswith(prefix)]:
                self._drop(key)
        return True

    def statistics(self) -> CacheStatistics:
        """See `Cache.statistics`. Entries that expired and were not asked for since still count."""
        with self._lock:
            return CacheStatistics("memory", len(self._entries), self._size, self._max_bytes, self._hits, self._misses, self._evictions)

    def check(self) -> tuple[ServerStatistics, ...]:
        """See `Cache.check`."""
        return ()

    def close(self) -> None:
        """See `Cache.close`."""
        with self._lock:
            self._closed = True
            self._entries.clear()
            self._size = 0

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires <= self._clock.monotonic():
            self._drop(key)
            return None
        return entry

    def _put(self, key: str, value: bytes, expires: float) -> bool:
        self._drop(key)
        size = len(key) + len(value) + ENTRY_BYTES
        if self._closed or len(value) > MAX_VALUE_BYTES or size > self._max_bytes:
            return False
        while self._size + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self._evictions += 1
        self._entries[key] = _Entry(bytes(value), expires, size)
        self._size += size
        return True

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size
