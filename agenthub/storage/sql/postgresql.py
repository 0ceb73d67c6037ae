"""PostgreSQL through psycopg2: bounded waits, and outcomes settled when an acknowledgement is lost."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import psycopg2
import psycopg2.extensions
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.dialects import postgresql

from agenthub.core.errors import AgentHubError, InvalidInput, StorageUnavailable
from agenthub.storage.configuration import PostgresqlTarget, StorageSettings, postgresql_target
from agenthub.storage.contract import DbNow
from agenthub.storage.gate import GATE, GATE_ID, Lane, Seen, seen
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.dialect import (
    Connect,
    ConnectionLost,
    Contended,
    Failure,
    Locked,
    Outcome,
    SqlDialect,
    Ticket,
    taken,
    unavailable,
)
from agenthub.storage.sql.engine import make_engine
from agenthub.storage.sql.limits import SETTLING_SECONDS, deadline, expired, remaining_seconds, unlimited
from agenthub.storage.sql.postgresql_reader import PostgresqlReader
from agenthub.storage.sql.tables import Instant, TableSet
from agenthub.storage.sql.watchdog import Watchdog

CONNECT_SECONDS: Final = 5
IDLE_SECONDS: Final = 1.0
"""A connection that rested longer is asked whether it lives before it is used: asking each time would double what a quick read costs."""
CALL_SECONDS: Final = 6.0  # over statement_timeout, so that a living server speaks first
SESSION: Final = (
    "-c statement_timeout=5000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000 "
    "-c timezone=UTC -c client_encoding=UTF8 -c default_transaction_isolation=read\\ committed"
)
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
_CONTENDED: Final = frozenset({"40001", "40P01"})
_NOT_MIGRATED: Final = frozenset({"42P01", "42703"})
_FULL: Final = ("too many clients", "too many connections", "remaining connection slots")

_WITHOUT_LIMITS: Final = sa.text(
    "SELECT set_config(name, '0', false) FROM unnest(ARRAY['statement_timeout', 'lock_timeout', "
    "'idle_in_transaction_session_timeout']) AS name"
)
ADVISORY_LOCK: Final = 0x4167656E744875  # "AgentHu": one number for all that migrate this application
GATE_LOCK: Final = 0x4167656E744747  # "AgentGG": shared by every commit that asks the gate, alone for who turns it
_TRANSACTION: Final = "SELECT pg_current_xact_id()::text AS transaction"
_TIMELINE: Final = ", substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline"
# Two statements in one message: the second one sees what was committed before the lock was granted, and costs no round trip.
_SHARE_GATE: Final = f"SELECT pg_advisory_xact_lock_shared({GATE_LOCK}); "
_TURN_GATE: Final = f"SELECT pg_advisory_xact_lock({GATE_LOCK}); "
_SEE_GATE: Final = (
    ", gate.mode, gate.until <= clock_timestamp() AS lapsed, gate.note, gate.followed, gate.exported, clock_timestamp() AS now"
    f" FROM (SELECT 1) AS one LEFT JOIN {GATE.name} AS gate ON gate.id = '{GATE_ID}'"
)
_STATUS: Final = sa.text("SELECT pg_is_in_recovery(), pg_xact_status(CAST(:transaction AS xid8))")
_END_SESSION: Final = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :process AND backend_xid = CAST(CAST(:transaction AS xid8) AS xid)"
)


class WatchedConnection(psycopg2.extensions.connection):
    """A connection whose every wait for the server ends in time."""

    def __init__(self, watchdog: Watchdog, dsn: str, *_: Any, **__: Any) -> None:
        super().__init__(dsn)
        self._watchdog = watchdog
        # A descriptor of our own: libpq closes its own when a connection breaks, and the number may be another's by then.
        self._line = socket.socket(fileno=os.dup(self.fileno()))
        self.used_at = time.monotonic()

    def watched(self) -> AbstractContextManager[None]:
        """Run one call to the server within this thread's deadline."""
        self.used_at = time.monotonic()
        return nullcontext() if unlimited() else self._watchdog.limit(self._line, remaining_seconds(CALL_SECONDS))

    def commit(self) -> None:
        with self.watched():
            super().commit()

    def rollback(self) -> None:
        with self.watched():
            super().rollback()

    def close(self) -> None:
        super().close()
        self._line.close()


class WatchedCursor(psycopg2.extensions.cursor):
    """A cursor of a WatchedConnection."""

    def execute(self, query: Any, vars: Any = None) -> None:
        with self._watched():
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        with self._watched():
            super().executemany(query, vars_list)

    def _watched(self) -> AbstractContextManager[None]:
        connection = self.connection
        return connection.watched() if isinstance(connection, WatchedConnection) else nullcontext()


def open_postgresql(settings: StorageSettings, app: Flask) -> SqlStorage:
    """The storage over the app's engine; nothing is connected yet."""
    target = postgresql_target(settings.url)
    watchdog = Watchdog()
    url = sa.URL.create("postgresql+psycopg2", username=target.user, password=target.password, database=target.database)
    engine = make_engine(app, url, engine_options(target, watchdog), settings)
    sa.event.listen(engine, "checkout", check_idle)
    return SqlStorage(engine, PostgresqlDialect(watchdog, several_hosts=len(target.hosts) > 1), PostgresqlReader(engine))


def check_idle(connection: Any, _record: Any, _proxy: Any) -> None:
    """As the pool gives a connection out: one that died while it rested is replaced, with all that are as old.

    Raises: InvalidatePoolError, which the pool answers with a new connection.
    """
    if time.monotonic() - connection.used_at <= IDLE_SECONDS:
        return
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.autocommit = False
    except psycopg2.Error as error:
        raise sa.exc.InvalidatePoolError from error


def engine_options(target: PostgresqlTarget, watchdog: Watchdog) -> dict[str, Any]:
    """The options that the engine is made with; the hosts go to libpq as they are, so that it fails over between them."""
    parameters = dict(target.parameters)
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, min(CONNECT_SECONDS, 8 // max(1, len(target.hosts)))),
        "application_name": "agenthub",
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 8000,
        **parameters,
        "options": f"{SESSION} {parameters.get('options', '')}".strip(),
        "connection_factory": partial(WatchedConnection, watchdog),
        "cursor_factory": WatchedCursor,
    }
    if target.hosts:
        arguments["host"] = ",".join(target.hosts)
    if any(target.ports):
        arguments["port"] = ",".join(target.ports)
    return {
        "pool_recycle": 1800,
        "pool_use_lifo": True,
        "use_native_hstore": False,
        "connect_args": arguments,
    }


class PostgresqlDialect(SqlDialect):
    """PostgreSQL 13 and later. With `several_hosts` an outcome is only believed from the server timeline that the write went to."""

    name = "postgresql"
    locks_rows = True
    locks_by_process = False

    def __init__(self, watchdog: Watchdog, *, several_hosts: bool) -> None:
        self._watchdog = watchdog
        self._several_hosts = several_hosts
        ticket = _TRANSACTION + (_TIMELINE if several_hosts else ", NULL AS timeline")
        self._ticket = sa.text(ticket)
        self._begin = {"own": self._ticket, "turn": sa.text(_TURN_GATE + ticket), "open": sa.text(_SHARE_GATE + ticket + _SEE_GATE)}

    def insert(self, target: sa.Table) -> postgresql.Insert:
        return postgresql.insert(target)

    def clock(self, value: DbNow) -> sa.ColumnElement[Any]:
        return _later(sa.func.clock_timestamp(type_=Instant()), value)

    def steady_clock(self, value: DbNow) -> sa.ColumnElement[Any]:
        return _later(sa.func.statement_timestamp(type_=Instant()), value)

    def clock_statement(self) -> sa.Select[Any]:
        return sa.select(sa.func.clock_timestamp(type_=Instant()))

    def shared(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return statement.with_for_update(read=True)

    @contextmanager
    def reading(self, connection: sa.Connection) -> Iterator[None]:
        # Not SQLAlchemy's isolation level: the driver would send a SET before and after each read.
        driver: Any = connection.connection.driver_connection
        driver.autocommit = True
        try:
            yield
        finally:
            with suppress(psycopg2.Error):  # the connection is dead, which what is raised inside says
                driver.autocommit = False

    @contextmanager
    def standing_still(self, connection: sa.Connection) -> Iterator[None]:
        try:
            connection.execute(_WITHOUT_LIMITS)
            connection.commit()
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute(sa.select(1))  # the view is that of the first statement
            yield
        finally:
            connection.invalidate()  # as in migration_session

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def begin(self, connection: sa.Connection, lane: Lane) -> tuple[Ticket, Seen | None]:
        transaction, timeline, *gate = connection.execute(self._begin[lane]).one()
        driver = connection.connection.driver_connection
        ticket = Ticket(transaction, driver.get_backend_pid() if driver is not None else 0, timeline)
        return ticket, _seen(*gate) if gate else None

    def outcome(self, ticket: Ticket, connect: Connect) -> Outcome:
        with deadline(SETTLING_SECONDS):
            while not expired():
                try:
                    with connect() as connection:
                        outcome = self._ask_outcome(connection, ticket)
                except (StorageUnavailable, sa.exc.DBAPIError):
                    outcome = "unknown"
                if outcome != "unknown":
                    return outcome
                time.sleep(remaining_seconds(0.1))
        return "unknown"

    def _ask_outcome(self, connection: sa.Connection, ticket: Ticket) -> Outcome:
        if self._several_hosts and connection.execute(self._ticket).one().timeline != ticket.timeline:
            return "unknown"  # another server was promoted: its transaction numbers are not those of the old one
        try:
            in_recovery, status = connection.execute(_STATUS, {"transaction": ticket.transaction}).one()
        except sa.exc.DBAPIError as error:
            # 22023: the number is in the future, so the server crashed before it learned of this transaction.
            return "aborted" if getattr(error.orig, "pgcode", None) == "22023" else "unknown"
        if in_recovery:
            return "unknown"
        if status == "in progress":
            # COMMIT may never have arrived: the old session would wait for it. End it, then the answer is final.
            connection.execute(_END_SESSION, {"process": ticket.process, "transaction": ticket.transaction})
            return "unknown"
        return "committed" if status == "committed" else "aborted" if status == "aborted" else "unknown"

    def failure(self, error: sa.exc.DBAPIError, tables: TableSet) -> Failure | AgentHubError:
        code = getattr(error.orig, "pgcode", None) or ""
        if error.connection_invalidated or code in _LOST or code.startswith("08"):
            return ConnectionLost()
        if not code and isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
            return ConnectionLost()
        if code == "25006":
            return ConnectionLost()
        if code in _CONTENDED:
            return Contended()
        if code == "55P03":
            return Locked()
        return _permanent(error, code, tables)

    def opens_outage(self, error: sa.exc.DBAPIError) -> bool:
        return not any(phrase in str(error.orig) for phrase in _FULL)

    @contextmanager
    def migration_session(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with deadline(None), engine.connect() as connection:
            try:
                connection.execute(_WITHOUT_LIMITS)
                connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
                connection.commit()
                yield connection
            finally:
                connection.invalidate()  # ends the session: its lock and settings go with it

    def shred(self, _connection: sa.Connection) -> tuple[str, ...]:
        return (
            "dead rows in PostgreSQL's files, until VACUUM (autovacuum by default) lets new rows overwrite them",
            "PostgreSQL's write-ahead log, its archive and replicas, until they are recycled",
        )

    def after_fork(self) -> None:
        self._watchdog.after_fork()


def _seen(mode: str | None, lapsed: bool | None, note: str | None, followed: bool | None, exported: str | None, now: datetime) -> Seen:
    return seen(mode, bool(lapsed), note, followed, exported, now.astimezone(UTC))


def _later(moment: sa.ColumnElement[Any], value: DbNow) -> sa.ColumnElement[Any]:
    interval = sa.func.make_interval(0, 0, 0, 0, 0, 0, float(value.seconds), type_=sa.Interval())
    return sa.type_coerce(moment + interval, Instant())


def _permanent(error: sa.exc.DBAPIError, code: str, tables: TableSet) -> AgentHubError:
    if code == "23505":
        diagnosis = getattr(error.orig, "diag", None)
        return taken(tables.constraint(getattr(diagnosis, "constraint_name", None) or ""))
    if code[:2] in ("22", "23") or code == "54000":
        return InvalidInput("the database refused a value")
    if code in _NOT_MIGRATED:
        return unavailable("the database lacks a table or column of this release: run `make migrate`")
    if code == "57014":
        return unavailable("the database took too long")
    return unavailable(f"the database refused the statement ({code or 'no code'})")
