"""Repeats a small act while work is under way, such as renewing a lease."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agenthub.core.errors import AgentHubError

_log = logging.getLogger("agenthub.heartbeat")


class Heartbeat:
    """Calls `beat` every so many seconds in a thread of its own, for at most `most_seconds`, while the block is at work.

    A process that stands still does nothing, and a step that never ends is given up for dead after that time. Once `beat` returns False
    there is no more use in it. Errors of AgentHub are logged as those of `name`, and it goes on.
    """

    def __init__(self, name: str, beat: Callable[[], object], *, every_seconds: float, most_seconds: float) -> None:
        self._name = name
        self._act = beat
        self._every_seconds = every_seconds
        self._end = time.monotonic() + most_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._every_seconds) and time.monotonic() < self._end:
            try:
                if self._act() is False:
                    return
            except AgentHubError as error:
                _log.warning("%s: %s", self._name, error.message)
