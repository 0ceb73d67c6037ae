"""A short memory of an outage: a server that is away costs one caller the wait, not all of them."""

from __future__ import annotations

import threading
import time
from typing import Final

from agenthub.core.errors import StorageUnavailable

RETRY_AFTER_SECONDS: Final = 2.0
OUTAGE_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 6.0  # longer than a connect may take, so that one thread at a time tries


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

    @property
    def known(self) -> bool:
        """Whether the last connect failed."""
        return self._next_try is not None

    def failed(self) -> None:
        """A connect failed."""
        with self._lock:
            self._next_try = time.monotonic() + OUTAGE_SECONDS

    def recovered(self) -> None:
        """A connect worked."""
        if self._next_try is not None:
            with self._lock:
                self._next_try = None
