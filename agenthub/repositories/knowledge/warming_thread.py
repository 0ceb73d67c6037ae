"""The thread that warms a process after its start and on request, and records what the process is asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal, TypeVar

from agenthub.core.errors import AgentHubError
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.warming import Warmed, Warming

POLL_SECONDS: Final = 5.0
FIRST_RECORD_SECONDS: Final = 10.0
RECORD_SECONDS: Final = 300.0
_CLOSING_SECONDS: Final = 2.0
T = TypeVar("T")
State = Literal["off", "waiting", "running"]

_log = logging.getLogger("agenthub.warming")


class WarmingThread:
    """Warms behind the requests of one process. Made anywhere, begun after the fork; a process may die at any point of it."""

    def __init__(self, warming: Warming, requested: Callable[[], str | None], *, enabled: bool = True) -> None:
        """`requested` tells which warming was asked for last, for all processes: another word each time."""
        self._warming = warming
        self._requested = requested
        self._enabled = enabled
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.state: State = "waiting" if enabled else "off"
        self.last: Warmed | None = None

    def begin(self) -> bool:
        """Warm now, then wait for requests; False, and nothing done, when it has begun already or can't."""
        with self._lock:
            if not self._enabled or self._thread is not None or self._closed.is_set():
                return False
            self._thread = threading.Thread(target=self._run, name="warming", daemon=True)
            self._thread.start()
        return True

    def ask(self) -> bool:
        """Warm once more; False when it is switched off."""
        if self._enabled and not self.begin():
            self._asked.set()
            self._wake.set()
        return self._enabled

    def note(self, base: KnowledgeBase, texts: Sequence[str]) -> None:
        """A knowledge base was searched, with these questions."""
        if self._enabled:
            self._warming.notes.note(base, texts)

    def close(self) -> None:
        """Stop after the knowledge base under way, waiting at most 2 seconds for it."""
        self._closed.set()
        self._wake.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        seen = self._requested()
        since = self._guarded(self._warming.now)
        self._warming.notes.take()  # of before `since`
        self._guarded(self._warm)
        record_at = time.monotonic() + FIRST_RECORD_SECONDS
        while not self._closed.is_set():
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            word = self._requested()
            if self._asked.is_set() or (word is not None and word != seen):
                seen = word
                self._asked.clear()
                since = self._recorded(since)  # whoever asks means what is busy now, and the next process to warm reads it
                self._guarded(self._warm)
            if time.monotonic() >= record_at and not self._closed.is_set():
                since = self._recorded(since)
                record_at = time.monotonic() + RECORD_SECONDS

    def _recorded(self, since: datetime | None) -> datetime | None:
        """Record what was noted after `since`, and from when the next record counts."""
        after = self._guarded(self._warming.now)
        if since is not None:
            self._guarded(lambda: self._warming.record(since))
        else:
            self._warming.notes.take()  # nobody knows whether an erase came between
        return after

    def _warm(self) -> None:
        if self._closed.is_set():
            return
        self.state = "running"
        try:
            self.last = self._warming.warm(self._closed.is_set)
            _log.info("warmed %s", self.last)
        finally:
            self.state = "waiting"

    def _guarded(self, step: Callable[[], T]) -> T | None:
        """The step's result; None, and a line in the log, when it failed: the next one may go well."""
        try:
            return step()
        except AgentHubError as error:
            _log.warning("warming: %s", error.message)
        except Exception:  # noqa: BLE001 - a worker loop: warming is never worth a process
            _log.exception("warming failed")
        return None
