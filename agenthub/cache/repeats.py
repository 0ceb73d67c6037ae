"""What was asked for lately, by hash alone: what is asked for once is not worth keeping."""

from __future__ import annotations

import threading
from typing import Final

from agenthub.core.clock import Clock, SystemClock

MAX_KEYS: Final = 10_000
"""Keys remembered from each of two spans of time: under a megabyte together."""


class Repeats:
    """Remembers keys for one to two spans of `span_seconds`, or as many as fit in its bound. Safe to share between threads.

    Two keys with the same hash are taken for one, which costs a look-up.
    """

    def __init__(self, span_seconds: float, clock: Clock | None = None) -> None:
        self._span_seconds = span_seconds
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._now: set[int] = set()
        self._before: set[int] = set()
        self._began = self._clock.monotonic()

    def note(self, key: str) -> bool:
        """Whether it was noted lately; it is from now on."""
        name = hash(key)
        with self._lock:
            if len(self._now) >= MAX_KEYS or self._clock.monotonic() - self._began > self._span_seconds:
                self._before, self._now, self._began = self._now, set(), self._clock.monotonic()
            seen = name in self._now or name in self._before
            self._now.add(name)
        return seen
