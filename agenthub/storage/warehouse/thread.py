"""The exporter of a process that serves or works: one thread, which takes its turn when one is due."""

from __future__ import annotations

import logging
import threading
from typing import Final

from agenthub.core.errors import AgentHubError
from agenthub.core.threads import give_way
from agenthub.storage.warehouse.exporting import Exporter

_CLOSING_SECONDS: Final = 2.0
_log = logging.getLogger("agenthub.warehouse")


class WarehouseThread:
    """Exports behind what the process does. All that it knows is in the database; it may die at any point."""

    def __init__(self, exporter: Exporter, interval_seconds: float, *, enabled: bool) -> None:
        self._exporter = exporter
        self._interval_seconds = interval_seconds
        self._enabled = enabled
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Take turns from now on. Never before a fork."""
        if self._enabled and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="warehouse", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End, waiting at most 2 seconds for the batch under way: whoever comes next finds whether it arrived."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        give_way()
        while not self._stop.is_set():
            try:
                self._exporter.run(stop=self._stop)
            except AgentHubError as error:
                _log.warning("events could not be exported: %s", error.message)
            except Exception:  # noqa: BLE001 - a worker loop: whatever it was, the next turn may do better
                _log.exception("events could not be exported")
            self._stop.wait(self._interval_seconds)
