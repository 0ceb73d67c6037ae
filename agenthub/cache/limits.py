"""How many requests a minute: counted by all replicas together through the cache, by each process alone while it is down."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from agenthub.cache.contract import Cache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.policy import RATE
from agenthub.core.clock import Clock
from agenthub.core.types import EVERY_TENANT

Scope = Literal["key", "user", "organization", "address"]
WINDOW_SECONDS: Final = 60
SHARE_SECONDS: Final = 1.0
_STEPS: Final = 200
"""A process tells the others after each 1/200 of a limit and every second, so a limit is overrun by at most that for each process."""
_MOST_SUBJECTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Subject:
    """Who or what is counted, and how many requests it has a minute."""

    scope: Scope
    name: str
    per_minute: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a subject stands in the minute that ends in `reset_seconds`."""

    subject: Subject
    used: int
    reset_seconds: int

    @property
    def remaining(self) -> int:
        """How many more are let in."""
        return max(0, self.subject.per_minute - self.used)

    @property
    def exceeded(self) -> bool:
        """Whether this request was one too many."""
        return self.used > self.subject.per_minute


@dataclass(slots=True)
class _Minute:
    """One subject in one minute, as this process knows it."""

    window: int
    own: int = 0
    told: int = 0
    others: int = 0
    told_at: float = float("-inf")


class RateLimits:
    """Counts requests. Safe to share between threads. Nothing here fails: what can't be shared is counted locally."""

    def __init__(self, cache: Cache, keys: CacheKeys, clock: Clock) -> None:
        self._cache = cache
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: dict[tuple[Scope, str], _Minute] = {}

    def count(self, subjects: Sequence[Subject]) -> Standing:
        """Count one request of each subject; where the one with the least left stands."""
        now = self._clock.now().timestamp()
        reset_seconds = WINDOW_SECONDS - int(now % WINDOW_SECONDS)
        standings = [Standing(subject, self._count(subject, int(now // WINDOW_SECONDS)), reset_seconds) for subject in subjects]
        return min(standings, key=lambda standing: standing.subject.per_minute - standing.used)

    def _count(self, subject: Subject, window: int) -> int:
        with self._lock:
            minute = self._minute(subject, window)
            minute.own += 1
            rank = minute.own  # other threads count on while this one asks
            now = self._clock.monotonic()
            amount = minute.own - minute.told
            if amount < max(1, subject.per_minute // _STEPS) and now - minute.told_at < SHARE_SECONDS:
                return rank + minute.others
            minute.told, minute.told_at = minute.own, now
        key = self._keys.key(EVERY_TENANT, RATE.name, RATE.version, subject.scope, subject.name, str(window))
        total = self._cache.increment(key, amount, RATE.ttl_seconds)
        with self._lock:
            if total is not None:
                minute.others = max(minute.others, total - minute.told)
            return rank + minute.others

    def _minute(self, subject: Subject, window: int) -> _Minute:
        name = (subject.scope, subject.name)
        found = self._minutes.get(name)
        if found is None or found.window != window:
            if len(self._minutes) >= _MOST_SUBJECTS:
                self._minutes = {key: minute for key, minute in self._minutes.items() if minute.window == window}
            found = self._minutes[name] = _Minute(window)
        return found
