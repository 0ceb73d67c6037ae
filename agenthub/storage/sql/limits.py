"""How long things may take: a deadline for each operation."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

OPERATION_SECONDS: Final = 9.0
GREETING_SECONDS: Final = 3.0  # for a pooled connection to show that it lives; a new one has libpq's connect_timeout
RECONNECT_SECONDS: Final = 5.0  # what a new connection may cost; with less left, a lost one is not replaced
SETTLING_SECONDS: Final = 3.0


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
