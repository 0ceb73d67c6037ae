"""Reads that every request makes, on a connection of the thread's own: SQLite answers them faster than a pool hands one out."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_BUSY_SECONDS: Final = 0.2
_CLOSING_SECONDS: Final = 1.0


class _Connection:
    """One thread's connection; the lock is held while it reads, so that nobody closes it meanwhile."""

    def __init__(self, target: str, epoch: int) -> None:
        self.epoch = epoch
        self.lock = threading.Lock()
        self.driver = sqlite3.connect(target, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self.driver.execute("PRAGMA query_only=ON")


class SqliteReader:
    """Runs single statements that only read, each seeing all that was committed before it began.

    It never waits long, retries or translates an error: whoever calls asks again through the engine, which does.
    """

    def __init__(self, path: Path) -> None:
        self._target = f"{path.absolute().as_uri()}?mode=rw"  # not a connection that would make a missing file
        self._start()

    def _start(self) -> None:
        self._own = threading.local()
        self._lock = threading.Lock()
        self._all: list[_Connection] = []
        self._epoch = 0

    def rows(self, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The statement's rows as the driver gives them.

        Raises: sqlite3.Error, of whatever kind.
        """
        connection: _Connection | None = getattr(self._own, "connection", None)
        if connection is None or connection.epoch != self._epoch:
            connection = self._open()
        with connection.lock:
            return connection.driver.execute(text, values).fetchall()

    def _open(self) -> _Connection:
        with self._lock:
            connection = self._own.connection = _Connection(self._target, self._epoch)
            self._all.append(connection)
        return connection

    def close(self) -> None:
        """Close every thread's connection; a thread that asks again opens another."""
        with self._lock:
            self._epoch += 1
            closing, self._all = self._all, []
        for connection in closing:
            if connection.lock.acquire(timeout=_CLOSING_SECONDS):
                with suppress(sqlite3.Error):
                    connection.driver.close()

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._parents = self._all  # kept, so that none of them is ever closed from here
        self._start()
