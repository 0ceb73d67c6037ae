"""Renews leases while a slice is at work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from agenthub.core.errors import AgentHubError
from agenthub.repositories.knowledge.job_queue import JobQueue, Leased

_log = logging.getLogger("agenthub.jobs")


class Heartbeat:
    """Renews the leases three times in their time, in a thread of its own, for at most `most_seconds`.

    A process that stands still renews nothing, and a step that never ends is given up for dead after that time.
    """

    def __init__(self, queue: JobQueue, leases: Sequence[Leased], most_seconds: float) -> None:
        self._queue = queue
        self._leases = leases
        self._end = time.monotonic() + most_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="job-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._queue.lease_seconds / 3) and time.monotonic() < self._end:
            try:
                self._queue.renew(self._leases)
            except AgentHubError as error:
                _log.warning("leases of jobs not renewed: %s", error.message)
