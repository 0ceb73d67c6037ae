"""A missing value is made once: whoever asks for it meanwhile waits for the one who makes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS: Final = 30.0


class _Flight(Generic[T]):
    """One value being made."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.values: list[T] = []


class SingleFlight(Generic[T]):
    """Of the threads of one process that ask for the same key at once, one makes the value."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """What `make` gives this thread or the one that was first. Where that one failed, this thread makes it itself.

        Raises: what `make` raises.
        """
        with self._lock:
            flight = self._flights.get(key)
            first = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if not first:
            flight.ended.wait(PATIENCE_SECONDS)
            return flight.values[0] if flight.values else make()
        try:
            value = make()
            flight.values.append(value)
            return value
        finally:
            with self._lock:
                self._flights.pop(key, None)
            flight.ended.set()
