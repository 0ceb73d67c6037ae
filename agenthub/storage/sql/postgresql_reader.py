"""Reads that every request makes, prepared on PostgreSQL's side: planning such a statement takes it five times as long as answering it."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg2
import sqlalchemy as sa

from agenthub.storage.sql.limits import GREETING_SECONDS, deadline

MOST_CONNECTIONS: Final = 4
"""Of a process, beside the pool's. A read takes some 50 us: who finds all of them busy waits for one."""
QUICK_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 0.05
_REST_SECONDS: Final = 5.0
_OLD_SECONDS: Final = 1800.0
_PARAMETER: Final = re.compile(r"%\((\w+)\)s")
# A pool of sessions between us and the server (PgBouncer by transactions) may answer from a session that never saw our PREPARE.
_OTHER_SESSION: Final = frozenset({"26000", "42P05"})


class _Connection:
    """One connection, and the statements that its session has prepared."""

    def __init__(self, driver: Any) -> None:
        driver.autocommit = True
        self.driver = driver
        self.old_at = time.monotonic() + _OLD_SECONDS
        self._prepared: dict[str, tuple[str, tuple[str, ...]]] = {}

    def rows(self, text: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        cursor = self.driver.cursor()
        try:
            execute, names = self._prepared.get(text) or self._prepare(cursor, text)
            cursor.execute(execute, [values[name] for name in names])
            found: list[tuple[Any, ...]] = cursor.fetchall()
        finally:
            cursor.close()
        return found

    def _prepare(self, cursor: Any, text: str) -> tuple[str, tuple[str, ...]]:
        names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text).replace("%%", "%")
        # Named by what it says: whoever meets the name in a shared session means the same statement.
        name = f"agenthub_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        cursor.execute(f"PREPARE {name} AS {numbered}")
        places = ", ".join(["%s"] * len(names))
        made = self._prepared[text] = (f"EXECUTE {name}({places})" if names else f"EXECUTE {name}", names)
        return made

    def close(self) -> None:
        with suppress(psycopg2.Error):
            self.driver.close()


class PostgresqlReader:
    """Runs single statements that only read, each seeing all that was committed before it began.

    It never waits long, retries or translates an error: whoever calls asks again through the engine, which does.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._start()

    def _start(self) -> None:
        self._idle: list[_Connection] = []
        self._turns = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._epoch = 0
        self._rests_until = 0.0
        self._works = True

    def rows(self, text: str, values: Any) -> list[tuple[Any, ...]]:
        """The statement's rows as the driver gives them. `values` are by name.

        Raises: psycopg2.Error, of whatever kind; also when it does not try.
        """
        if not self._works or not self._turns.acquire(timeout=_TURN_SECONDS):
            raise psycopg2.InterfaceError("the quick way is closed or full")
        try:
            return self._rows(text, values)
        finally:
            self._turns.release()

    def _rows(self, text: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        epoch, connection = self._epoch, self._taken()
        try:
            with deadline(QUICK_SECONDS):
                found = connection.rows(text, values)
        except BaseException as error:
            connection.close()
            if getattr(error, "pgcode", None) in _OTHER_SESSION:
                self._works = False
            raise
        if epoch == self._epoch and time.monotonic() < connection.old_at:
            self._idle.append(connection)
        else:
            connection.close()
        return found

    def _taken(self) -> _Connection:
        with suppress(IndexError):
            return self._idle.pop()
        if time.monotonic() < self._rests_until:
            raise psycopg2.OperationalError("no connection could be opened a moment ago")
        try:
            with deadline(GREETING_SECONDS):
                pooled = self._engine.raw_connection()
                driver = pooled.driver_connection
                pooled.detach()
                return _Connection(driver)
        except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
            self._rests_until = time.monotonic() + _REST_SECONDS
            raise psycopg2.OperationalError("no connection can be opened") from error

    def close(self) -> None:
        """Close the connections; whoever asks again opens others."""
        self._epoch += 1
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._parents = self._idle  # kept, so that none of them is ever closed from here
        self._start()
