"""The storage contract over a SQLAlchemy engine, whatever the database."""

from __future__ import annotations

import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from agenthub.core.errors import InvalidInput, OutcomeUnknown, StorageUnavailable
from agenthub.core.failpoints import failpoint
from agenthub.storage.contract import (
    ALL,
    EVERY_TENANT,
    MAX_PAGE,
    MAX_WRITES,
    Filter,
    Insert,
    Query,
    Question,
    Row,
    RowReader,
    Storage,
    Table,
    TenantScope,
    Update,
    Write,
)
from agenthub.storage.gate import Lane, lane_of
from agenthub.storage.outage import RETRY_AFTER_SECONDS, Outage
from agenthub.storage.rows import storable_text, tenant_value
from agenthub.storage.sql.compiling import holds, owned, page
from agenthub.storage.sql.dialect import ConnectionLost, Failure, SqlDialect, Ticket
from agenthub.storage.sql.limits import (
    GREETING_SECONDS,
    OPERATION_SECONDS,
    RECONNECT_SECONDS,
    deadline,
    remaining_seconds,
)
from agenthub.storage.sql.locking import locks
from agenthub.storage.sql.prepared import Parameters, PreparedRead, Reader, prepared_get
from agenthub.storage.sql.questions import answers, bound
from agenthub.storage.sql.tables import TableSet
from agenthub.storage.sql.writes import InsertRun, Step, Writer, steps

WRITE_TRIES: Final = 8
READ_TRIES: Final = 2
APPEND_ROWS: Final = 1000

_random: Final = secrets.SystemRandom()

T = TypeVar("T")


class SqlStorage(Storage):
    """Rows in PostgreSQL or SQLite. Owns the engine; connects on first use, and anew in a forked child."""

    def __init__(self, engine: sa.Engine, dialect: SqlDialect, reader: Reader | None = None) -> None:
        """`reader` is a quicker way for the reads that every request makes, where the database has one."""
        self.backend = dialect.name
        self._reader = reader
        self.engine = engine
        self.tables = TableSet()
        self.dialect = dialect
        self._outage = Outage()
        self._gets: dict[tuple[str, bool], tuple[Table, PreparedRead]] = {}
        self._questions: dict[str, tuple[Question, frozenset[str], PreparedRead]] = {}
        _follow_forks(self)

    def get(self, table: Table, tenant: TenantScope, key: str) -> Row | None:
        owner = tenant_value(table, tenant)
        if not storable_text(key) or not storable_text(owner or ""):
            return None
        rows = self._prepared_rows(self._get_of(table, of_tenant=owner is not None), {"key": key, "tenant": owner})
        return rows[0] if rows else None

    def _prepared_rows(self, prepared: PreparedRead, parameters: Parameters) -> list[Row]:
        quick = None if self._outage.known else self._reader  # the engine finds out when an outage is over
        found = None if quick is None else prepared.quick_rows(quick, parameters)
        return self.read(lambda connection: prepared.rows(connection, parameters)) if found is None else found

    def _get_of(self, table: Table, *, of_tenant: bool) -> PreparedRead:
        name = (table.name, of_tenant)
        known = self._gets.get(name)
        if known is None or known[0] is not table:  # by identity: hashing a table takes longer than reading a row of it
            known = self._gets[name] = (table, prepared_get(table, self.tables[table], self.engine.dialect, of_tenant=of_tenant))
        return known[1]

    def get_many(self, table: Table, tenant: TenantScope, keys: Sequence[str]) -> dict[str, Row]:
        if len(keys) > MAX_PAGE:
            raise InvalidInput(f"at most {MAX_PAGE} keys at once")
        target = self.tables[table]
        wanted = [key for key in keys if storable_text(key)]
        statement = sa.select(target).where(target.c[table.key].in_(wanted), owned(table, target, tenant))
        found = {row[table.key]: row for row in self._rows(statement)} if wanted else {}
        return {key: found[key] for key in wanted if key in found}

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        return self._rows(page(table, self.tables[table], tenant, query, self.dialect.steady_clock))

    @contextmanager
    def at_one_moment(self) -> Iterator[RowReader]:
        with self._connected() as connection, deadline(None), self._translated(connection), self.dialect.standing_still(connection):
            yield _Still(connection, self.tables, self.dialect)

    def count(self, table: Table, tenant: TenantScope, where: Filter = ALL) -> int:
        target = self.tables[table]
        condition = holds(table, target, where, self.dialect.steady_clock)
        statement = sa.select(sa.func.count()).select_from(target).where(owned(table, target, tenant), condition)
        return int(self.read(lambda connection: connection.execute(statement).scalar_one()))

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        if not 1 <= len(writes) <= MAX_WRITES:
            raise InvalidInput(f"a commit holds 1 to {MAX_WRITES} writes")
        planned, lane = steps(writes), lane_of(writes)
        return self._tries(WRITE_TRIES, lambda: self._commit_once(planned, lane))

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), APPEND_ROWS):
            self.commit([Insert(table, row, ignore_existing=True) for row in rows[start : start + APPEND_ROWS]])

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        if not all(type(value) in (str, int) for value in parameters.values()):
            return answers(question, self._rows(bound(question, self.backend, parameters)))
        return self._prepared_rows(self._question_of(question, parameters), parameters)

    def _question_of(self, question: Question, parameters: Mapping[str, Any]) -> PreparedRead:
        known = self._questions.get(question.name)
        if known is None or known[0] is not question or known[1] != parameters.keys():
            prepared = PreparedRead(bound(question, self.backend, parameters), question.columns, self.engine.dialect)
            known = self._questions[question.name] = (question, frozenset(parameters), prepared)
        return known[2]

    def now(self) -> datetime:
        statement = self.dialect.clock_statement()
        if statement is None:
            return datetime.now(UTC)
        moment: datetime = self.read(lambda connection: connection.execute(statement).scalar_one())
        return moment

    def ping(self) -> float:
        started = time.monotonic()
        self.read(lambda connection: connection.execute(sa.select(1)).scalar_one())
        return time.monotonic() - started

    def shred(self) -> tuple[str, ...]:
        return self.read(self.dialect.shred)

    def close(self) -> None:
        self.engine.dispose()
        if self._reader is not None:
            self._reader.close()

    def prepare_fork(self) -> None:
        """Close idle connections where a child that inherits them would take their locks for its own."""
        if self.dialect.locks_by_process:
            self.engine.dispose()
            if self._reader is not None:
                self._reader.close()

    def renew_after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._parents_pool = self.engine.pool  # kept, so that nothing in it is ever closed from here
        self.engine.dispose(close=False)
        self._outage = Outage()
        self.dialect.after_fork()
        if self._reader is not None:
            self._reader.after_fork()

    def _rows(self, statement: sa.Executable) -> list[Row]:
        return self.read(lambda connection: [dict(row) for row in connection.execute(statement).mappings()])

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """The result of reading on a connection, within the time of one operation; done again if the connection is lost."""
        return self._tries(READ_TRIES, lambda: self._read_once(work))

    def _read_once(self, work: Callable[[sa.Connection], T]) -> T:
        with self._connected() as connection, self._translated(connection), self.dialect.reading(connection):
            return work(connection)

    def _tries(self, tries: int, work: Callable[[], T]) -> T:
        """Do the work, again after passing failures, within the time of one operation."""
        with deadline(OPERATION_SECONDS):
            for attempt in range(1, tries + 1):
                try:
                    return work()
                except Failure as failure:
                    if isinstance(failure, ConnectionLost):
                        self.engine.dispose()  # the others went to the same server
                        if self._reader is not None:
                            self._reader.close()
                    pause = _random.uniform(0, min(0.5, 0.01 * 2**attempt))
                    needed = RECONNECT_SECONDS if isinstance(failure, ConnectionLost) else pause
                    if attempt == tries or remaining_seconds(OPERATION_SECONDS) <= needed:
                        raise failure.final() from failure
                    time.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        self._outage.check()
        try:
            with deadline(remaining_seconds(GREETING_SECONDS)):
                connection = self.engine.connect()
        except sa.exc.TimeoutError as error:
            raise StorageUnavailable("all database connections are in use", retry_after_seconds=RETRY_AFTER_SECONDS) from error
        except sa.exc.DBAPIError as error:
            if self.dialect.opens_outage(error):
                self._outage.failed()
            raise StorageUnavailable("the database can't be reached", retry_after_seconds=RETRY_AFTER_SECONDS) from error
        self._outage.recovered()
        try:
            yield connection
        finally:
            # Giving back rolls back, over a line that may be dead by now; what was raised inside says more.
            with suppress(sa.exc.DBAPIError):
                connection.close()

    @contextmanager
    def _translated(self, connection: sa.Connection) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            failure = self.dialect.failure(error, self.tables)
            if isinstance(failure, ConnectionLost) and not connection.invalidated:
                connection.invalidate(error)
            raise failure from error

    def _commit_once(self, planned: Sequence[Step], lane: Lane) -> list[Row | None]:
        results: list[Row | None] = []
        sent: Ticket | None = None
        try:
            with self.dialect.turn(), self._connected() as connection, self._translated(connection):
                ticket, gate = self.dialect.begin(connection, lane)
                if gate is not None:
                    gate.admit()
                for lock in locks(planned, self.tables) if self.dialect.locks_rows else ():
                    connection.execute(lock)
                writer = Writer(connection, self.tables, self.dialect, listened=gate is not None and gate.listened)
                for step in planned:
                    results += writer.apply(step)
                if gate is not None:
                    writer.note(gate)
                failpoint("storage.before_commit")
                sent = ticket
                connection.commit()
        except ConnectionLost:
            if sent is None or not self._settled(sent, planned, results):
                raise
        failpoint("storage.after_commit")
        return results

    def _settled(self, ticket: Ticket, planned: Sequence[Step], results: Sequence[Row | None]) -> bool:
        """Whether a commit whose acknowledgement was lost took effect.

        Raises: OutcomeUnknown when the server can't be asked in time.
        """
        outcome = self.dialect.outcome(ticket, self._connected)
        if outcome == "aborted":
            return False
        if outcome == "committed" and self._visible(planned, results):
            return True
        raise OutcomeUnknown("the connection died while committing; retry with the same key", retry_after_seconds=RETRY_AFTER_SECONDS)

    def _visible(self, planned: Sequence[Step], results: Sequence[Row | None]) -> bool:
        # A server that crashed may give a lost transaction's number to another one (the number was never made durable),
        # so "committed" is believed only with the effect in sight. Seeing none proves nothing: somebody may have deleted it.
        position = 0
        for step in planned:
            row = results[position]
            if row is not None and isinstance(step, InsertRun | Update):
                stored = self.get(step.table, EVERY_TENANT, row[step.table.key])
                return stored is not None and (not step.table.versioned or stored["version"] >= row["version"])
            position += len(step.rows) if isinstance(step, InsertRun) else 1
        return True


class _Still:
    """Rows read in one transaction that sees nothing newer than itself."""

    def __init__(self, connection: sa.Connection, tables: TableSet, dialect: SqlDialect) -> None:
        self._connection = connection
        self._tables = tables
        self._dialect = dialect

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        statement = page(table, self._tables[table], tenant, query, self._dialect.steady_clock)
        return [dict(row) for row in self._connection.execute(statement).mappings()]


def _follow_forks(storage: SqlStorage) -> None:
    reference = weakref.ref(storage)

    def prepare() -> None:
        alive = reference()
        if alive is not None:
            alive.prepare_fork()

    def renew() -> None:
        alive = reference()
        if alive is not None:
            alive.renew_after_fork()

    os.register_at_fork(before=prepare, after_in_child=renew)
