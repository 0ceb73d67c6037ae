"""SQLite in a local file: one writer at a time, write-ahead log, every commit on disk before it is acknowledged."""

from __future__ import annotations

import fcntl
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.dialects import sqlite

from agenthub.core.errors import AgentHubError, InvalidInput
from agenthub.storage.configuration import StorageSettings, sqlite_path
from agenthub.storage.contract import DbNow
from agenthub.storage.evaluate import instant
from agenthub.storage.gate import GATE, GATE_ID, Lane, Seen, seen
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.dialect import Conflict, Connect, Failure, Locked, Outcome, SqlDialect, Ticket, taken, unavailable
from agenthub.storage.sql.engine import make_engine
from agenthub.storage.sql.limits import remaining_seconds
from agenthub.storage.sql.sqlite_reader import SqliteReader
from agenthub.storage.sql.tables import Instant, TableSet, microseconds

BUSY_SECONDS: Final = 5.0
_WRITES: Final = "agenthub_writes"
_GATE: Final = f"SELECT mode, until, note, followed, exported FROM {GATE.name} WHERE id = '{GATE_ID}'"  # noqa: S608 - our own names
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_TAKEN: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
_COLUMN: Final = re.compile(r"(\w+)\.(\w+)")


def open_sqlite(settings: StorageSettings, app: Flask) -> SqlStorage:
    """The storage over the app's engine; nothing is opened yet."""
    path = sqlite_path(settings.url)
    url = sa.URL.create("sqlite", database=str(path))
    arguments = {"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False}
    engine = make_engine(app, url, {"connect_args": arguments}, settings)
    install(engine)
    return SqlStorage(engine, SqliteDialect(), SqliteReader(Path(path)))


def install(engine: sa.Engine) -> None:
    """Prepare every new connection, and start write transactions with the write lock in hand.

    The driver's own BEGIN is off (`isolation_level` None): it would take the lock only at the first write, when another
    writer's commit may already have made the transaction's view stale.
    """

    def prepare(connection: Any, _: object) -> None:
        for statement in ("PRAGMA foreign_keys=ON", "PRAGMA synchronous=FULL"):
            connection.execute(statement)
        _use_write_ahead_log(connection)

    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)


def _use_write_ahead_log(connection: Any) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    end = time.monotonic() + BUSY_SECONDS
    while True:  # SQLite does not wait by itself when several processes change the mode of a new file at once
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


class SqliteDialect(SqlDialect):
    """SQLite 3.35 and later."""

    name = "sqlite"
    locks_rows = False
    locks_by_process = True

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def insert(self, target: sa.Table) -> sqlite.Insert:
        return sqlite.insert(target)

    def clock(self, value: DbNow) -> sa.ColumnElement[Any]:
        return sa.bindparam(None, instant(value, datetime.now(UTC)), Instant())

    def steady_clock(self, value: DbNow) -> sa.ColumnElement[Any]:
        return self.clock(value)

    def clock_statement(self) -> None:
        return None

    def shared(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return statement  # the transaction already keeps every other writer out

    def reading(self, _connection: sa.Connection) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def standing_still(self, connection: sa.Connection) -> Iterator[None]:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").all()  # the view is that of the first read
        yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        # SQLite's own waiting is sleeping and polling; threads of one process queue here instead.
        lock = self._turn
        if not lock.acquire(timeout=remaining_seconds(BUSY_SECONDS)):
            raise Locked
        try:
            yield
        finally:
            lock.release()

    def begin(self, connection: sa.Connection, lane: Lane) -> tuple[None, Seen | None]:
        connection.execution_options(**{_WRITES: True}).begin()  # from here on nobody else writes, so the gate can't be turned
        if lane != "open":
            return None, None
        now = datetime.now(UTC)
        row = connection.exec_driver_sql(_GATE).one_or_none()
        mode, until, note, followed, exported = row or (None, None, None, None, None)
        return None, seen(mode, until is not None and until <= microseconds(now), note, followed, exported, now)

    def outcome(self, _ticket: Ticket, _connect: Connect) -> Outcome:
        return "unknown"

    def failure(self, error: sa.exc.DBAPIError, tables: TableSet) -> Failure | AgentHubError:
        code = getattr(error.orig, "sqlite_errorcode", 0) or 0
        if code & 0xFF in _BUSY:
            return Locked()
        message = str(error.orig)
        if code in _TAKEN:
            return taken(_conflict(message, tables))
        if isinstance(error, sa.exc.IntegrityError | sa.exc.DataError):
            return InvalidInput("the database refused a value")
        if "no such table" in message or "no such column" in message or "has no column" in message:
            return unavailable("the database file lacks a table or column of this release: run `make migrate`")
        return unavailable(f"the database file can't be used: {message}")

    def opens_outage(self, _error: sa.exc.DBAPIError) -> bool:
        return False

    @contextmanager
    def migration_session(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        # A lock file beside the database: Alembic looks first and writes later, which SQLite's own lock doesn't cover.
        with Path(f"{engine.url.database}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with engine.connect() as connection:
                yield connection

    def shred(self, connection: sa.Connection) -> tuple[str, ...]:
        # VACUUM writes every page anew, without what was deleted; the checkpoint empties the log that holds the old pages.
        with self.turn():
            connection.exec_driver_sql("VACUUM")
        end = time.monotonic() + BUSY_SECONDS
        while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one():
            if time.monotonic() > end:
                return ("the SQLite log beside the database file, until no reader needs it and the next checkpoint empties it",)
            time.sleep(0.05)
        return ()

    def after_fork(self) -> None:
        self._turn = threading.Lock()


def _conflict(message: str, tables: TableSet) -> Conflict | None:
    pairs = _COLUMN.findall(message.partition(":")[2])
    return tables.constraint_on(pairs[0][0], [column for _, column in pairs]) if pairs else None
