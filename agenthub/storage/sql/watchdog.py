"""Ends database calls whose server stopped answering: statement_timeout can't help when no packet arrives any more."""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Watchdog:
    """Shuts a connection's socket down when a call outlasts its time; the driver then reports a lost connection.

    One thread per process, started with the first call; a forked child starts its own.
    """

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the parent's calls and thread."""
        self._wake = threading.Condition()
        self._calls: dict[int, socket.socket] = {}
        self._ends: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, line: socket.socket, seconds: float) -> Iterator[None]:
        """Run the block; its socket is shut down if it takes longer."""
        number = self._start(line, seconds)
        try:
            yield
        finally:
            with self._wake:
                self._calls.pop(number, None)

    def _start(self, line: socket.socket, seconds: float) -> int:
        number, end = next(self._numbers), time.monotonic() + seconds
        with self._wake:
            self._calls[number] = line
            heapq.heappush(self._ends, (end, number))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="storage-watchdog", daemon=True)
                self._thread.start()
            elif self._ends[0][1] == number:
                self._wake.notify()
        return number

    def _run(self) -> None:
        with self._wake:
            while True:
                while self._ends and (self._ends[0][1] not in self._calls or self._ends[0][0] <= time.monotonic()):
                    line = self._calls.pop(heapq.heappop(self._ends)[1], None)
                    if line is not None:
                        # Under the lock: the call can't end and close its socket between the look-up and this.
                        with suppress(OSError):
                            line.shutdown(socket.SHUT_RDWR)
                self._wake.wait(self._ends[0][0] - time.monotonic() if self._ends else None)
