"""What differs between the SQL databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

from agenthub.core.errors import AgentHubError, InvalidInput, StorageUnavailable, VersionConflict
from agenthub.storage.contract import DbNow, Table
from agenthub.storage.gate import Lane, Seen
from agenthub.storage.outage import RETRY_AFTER_SECONDS
from agenthub.storage.rows import already_exists
from agenthub.storage.sql.tables import TableSet

Outcome = Literal["committed", "aborted", "unknown"]
Connect = Callable[[], AbstractContextManager[sa.Connection]]
Conflict = tuple[Table, Sequence[str]]


class Failure(Exception):
    """A passing failure: nothing was applied, and the same call may work when it is tried again."""

    def final(self) -> AgentHubError:
        """What the caller gets when trying again is over."""
        return StorageUnavailable("the database is busy", retry_after_seconds=RETRY_AFTER_SECONDS)


class ConnectionLost(Failure):
    """The connection died, or its server no longer takes writes: those to the same server are most likely of no use either."""

    def final(self) -> AgentHubError:
        return StorageUnavailable("the connection to the database was lost", retry_after_seconds=RETRY_AFTER_SECONDS)


class Contended(Failure):
    """The database chose this transaction to give way: a deadlock or a serialization failure."""

    def final(self) -> AgentHubError:
        return VersionConflict("other writers kept changing these rows", retry_after_seconds=RETRY_AFTER_SECONDS)


class Locked(Failure):
    """Another transaction held a lock for too long."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What identifies a write transaction to its server, so that its outcome can be asked for."""

    transaction: str
    process: int
    timeline: str | None


class SqlDialect(ABC):
    """One database's ways; `locks_rows` says that writers wait for rows, not for the whole database,
    `locks_by_process` that the driver keeps its locks in memory that a fork copies.
    """

    name: str
    locks_rows: bool
    locks_by_process: bool

    @abstractmethod
    def insert(self, target: sa.Table) -> PostgresqlInsert | SqliteInsert:
        """An insert that knows ON CONFLICT."""

    @abstractmethod
    def clock(self, value: DbNow) -> sa.ColumnElement[Any]:
        """The clock as it is when a row is looked at: for writes."""

    @abstractmethod
    def steady_clock(self, value: DbNow) -> sa.ColumnElement[Any]:
        """The clock as it was when the statement began, which an index can be searched with: for reads and sets of rows."""

    @abstractmethod
    def clock_statement(self) -> sa.Select[Any] | None:
        """A statement for the clock; None when it is this machine's."""

    @abstractmethod
    def shared(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        """The statement, keeping others from changing its rows until the transaction ends."""

    @abstractmethod
    def reading(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Run a read without the round trips of a transaction."""

    @abstractmethod
    def standing_still(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Run many reads that all see the rows as they are now, without time limits."""

    @abstractmethod
    def turn(self) -> AbstractContextManager[None]:
        """This process's turn to write, where the database has one writer at a time."""

    @abstractmethod
    def begin(self, connection: sa.Connection, lane: Lane) -> tuple[Ticket | None, Seen | None]:
        """Start the write transaction: its ticket, where the database can be asked for an outcome, and for the lane `open` the
        gate, which can't be turned until the transaction ends. In the lane `turn` no such transaction is under way after this.
        """

    @abstractmethod
    def outcome(self, ticket: Ticket, connect: Connect) -> Outcome:
        """What became of a transaction whose COMMIT was sent."""

    @abstractmethod
    def failure(self, error: sa.exc.DBAPIError, tables: TableSet) -> Failure | AgentHubError:
        """The driver's error as ours."""

    @abstractmethod
    def opens_outage(self, error: sa.exc.DBAPIError) -> bool:
        """Whether a failed connect says that the server is away, not that it is full."""

    @abstractmethod
    def migration_session(self, engine: sa.Engine) -> AbstractContextManager[sa.Connection]:
        """A connection for changing the schema, without time limits; others that want one wait until it is given back."""

    @abstractmethod
    def shred(self, connection: sa.Connection) -> tuple[str, ...]:
        """Overwrite what was deleted, as far as this database can; where it may still be found, a sentence each."""

    @abstractmethod
    def after_fork(self) -> None:
        """Forget the parent's threads and locks."""


def taken(conflict: Conflict | None) -> AgentHubError:
    """The error for a taken key or unique set; InvalidInput when the database named none that we know."""
    if conflict is None:
        return InvalidInput("the row breaks a rule of the database")
    return already_exists(*conflict)


def unavailable(reason: str) -> StorageUnavailable:
    """The error for a database that answers, but can't do its work."""
    return StorageUnavailable(reason, retry_after_seconds=RETRY_AFTER_SECONDS)
