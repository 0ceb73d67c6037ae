"""BigQuery's clock, carried on by this machine's between readings: asking for it alone would take a query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

FRESH_SECONDS: Final = 60.0
"""How long a reading is carried on. Its error is what it took to come, half a round trip, and what two clocks drift in this time."""


class CarriedClock:
    """The database's clock. `ask` reads it; every commit brings a reading along. It never goes back within a process."""

    def __init__(self, ask: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._reading: tuple[datetime, float] | None = None
        self._last: datetime | None = None

    def renew_after_fork(self) -> None:
        """A lock of its own for a child; the reading holds on."""
        self._lock = threading.Lock()

    def read(self, moment: datetime, sent: float) -> None:
        """Keep a reading that was asked for at `sent` on the monotonic clock and has just come."""
        with self._lock:
            self._reading = moment, (sent + self._monotonic()) / 2

    def now(self) -> datetime:
        """The present by the database's clock.

        Raises: Failure, AgentHubError when there is no fresh reading and none can be had.
        """
        reading = self._reading
        if reading is None or self._monotonic() - reading[1] > FRESH_SECONDS:
            sent = self._monotonic()
            self.read(self._ask(), sent)
        with self._lock:
            moment, at = self._reading or (None, 0.0)
            if moment is None:
                raise AssertionError("unreachable: a reading was kept")
            present = moment + timedelta(seconds=self._monotonic() - at)
            self._last = present if self._last is None else max(self._last, present)
            return self._last
