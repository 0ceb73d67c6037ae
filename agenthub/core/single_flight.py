"""A missing value is made once: whoever asks for it meanwhile waits for the one who makes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS: Final = 30.0
"""Longest wait for another thread; then the value is made twice rather than not at all."""


class _Flight(Generic[T]):
    """One value being made."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.values: list[T] = []


class SingleFlight(Generic[T]):
    """Of the threads of one process that ask for the same key at once, one makes the value."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._flights: dict[str, _Flight[T]] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """As `get_many` for one key."""
        return self.get_many([key], lambda _: {key: make()})[key]

    def get_many(self, keys: Sequence[str], make: Callable[[Sequence[str]], Mapping[str, T]]) -> dict[str, T]:
        """The values of the keys. `make` is asked once for all that nobody is making, and for those whose maker failed or takes
        longer than the patience.

        No two threads wait for one another: each makes its own share before it waits for others'. Raises: what `make` raises.
        """
        mine, theirs = self._claimed(dict.fromkeys(keys))
        values = self._made(mine, make) if mine else {}
        limit = time.monotonic() + self._patience_seconds
        for key, flight in theirs.items():
            flight.ended.wait(max(0.0, limit - time.monotonic()))
            if flight.values:
                values[key] = flight.values[0]
        left = [key for key in theirs if key not in values]
        return values | dict(make(left)) if left else values

    def _claimed(self, keys: Mapping[str, None]) -> tuple[dict[str, _Flight[T]], dict[str, _Flight[T]]]:
        """The flights this thread has to make, and those that others are at."""
        mine: dict[str, _Flight[T]] = {}
        theirs: dict[str, _Flight[T]] = {}
        with self._lock:
            for key in keys:
                found = self._flights.get(key)
                if found is None:
                    mine[key] = self._flights[key] = _Flight()
                else:
                    theirs[key] = found
        return mine, theirs

    def _made(self, mine: Mapping[str, _Flight[T]], make: Callable[[Sequence[str]], Mapping[str, T]]) -> dict[str, T]:
        try:
            made = dict(make(list(mine)))
            for key, flight in mine.items():
                flight.values.append(made[key])
            return made
        finally:
            with self._lock:
                for key in mine:
                    del self._flights[key]
            for flight in mine.values():
                flight.ended.set()
