"""How long things may take: a deadline for each operation, and a short memory of an outage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agenthub.core.errors import StorageUnavailable

OPERATION_SECONDS: Final = 9.0
GREETING_SECONDS: Final = 3.0  # for a pooled connection to show that it lives; a new one has libpq's connect_timeout
RECONNECT_SECONDS: Final = 5.0  # what a new connection may cost; with less left, a lost one is not replaced
SETTLING_SECONDS: Final = 3.0
RETRY_AFTER_SECONDS: Final = 2.0
OUTAGE_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 6.0  # longer than a connect may take, so that one thread at a time tries


class _Current(threading.local):
    end: float | None = None


_current = _Current()


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """What this thread does inside must end within so many seconds (None: no end)."""
    before, _current.end = _current.end, None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _current.end = before


def remaining_seconds(at_most: float) -> float:
    """How long the present step may take; never less than 10 ms, so that a late step fails by the driver's error."""
    if _current.end is None:
        return at_most
    return max(0.01, min(at_most, _current.end - time.monotonic()))


def expired() -> bool:
    """Whether this thread's deadline is over."""
    return _current.end is not None and time.monotonic() >= _current.end


def unlimited() -> bool:
    """Whether this thread has no deadline."""
    return _current.end is None


class Outage:
    """After a failed connect, callers are refused at once for a second; then one of them tries again while the others are refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_try: float | None = None

    def check(self) -> None:
        """Return if a connection may be tried.

        Raises: StorageUnavailable while the server is known to be away.
        """
        now = time.monotonic()
        with self._lock:
            if self._next_try is None:
                return
            if now >= self._next_try:
                self._next_try = now + PROBE_SECONDS
                return
        raise StorageUnavailable("the database can't be reached", retry_after_seconds=RETRY_AFTER_SECONDS)

    def failed(self) -> None:
        """A connect failed."""
        with self._lock:
            self._next_try = time.monotonic() + OUTAGE_SECONDS

    def recovered(self) -> None:
        """A connect worked."""
        if self._next_try is not None:
            with self._lock:
                self._next_try = None
