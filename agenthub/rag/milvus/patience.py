"""Not waiting for a server that was just seen not to answer: one tries again now and then, all others are told at once."""

from __future__ import annotations

import threading
import time
from typing import Final

from agenthub.core.errors import VectorEngineUnavailable

_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 10.0


class Patience:
    """Whether a call is worth its time. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pause_seconds = 0.0
        self._again_at = 0.0
        self._reason = ""
        self.failures = 0
        """How often the server did not answer: whoever waited for another's attempt looks whether it has grown."""

    def ask(self) -> None:
        """Return if a call may be tried now; the one that may is the only one until the pause is over again.

        Raises: VectorEngineUnavailable during the pause after a failure.
        """
        with self._lock:
            if not self._pause_seconds:
                return
            now = time.monotonic()
            if now < self._again_at:
                raise VectorEngineUnavailable(self._reason, retry_after_seconds=max(1.0, self._again_at - now))
            self._again_at = now + self._pause_seconds

    def answered(self) -> None:
        """The server answered: everybody may ask."""
        self._pause_seconds = 0.0

    def failed(self, reason: str) -> VectorEngineUnavailable:
        """The server did not answer: pause, twice as long each time; the error to raise."""
        with self._lock:
            self._pause_seconds = min(max(2 * self._pause_seconds, _FIRST_SECONDS), _LONGEST_SECONDS)
            self._again_at = time.monotonic() + self._pause_seconds
            self._reason = reason
            self.failures += 1
        return VectorEngineUnavailable(reason, retry_after_seconds=max(1.0, self._pause_seconds))
