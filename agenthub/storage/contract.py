"""The narrow waist: what every storage backend promises, and nothing more.

A table is described once (`Table.of`) from its entity. Every operation names the tenant; a backend adds the tenant to the
predicate itself, so a caller can't forget it. All mutations go through `commit`: a short list of guarded writes applied
all or not at all. Times are aware UTC with microseconds. Text compares by code point on every backend.
"""

from __future__ import annotations

import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal, NewType, Protocol, get_args, get_origin, get_type_hints

from agenthub.core.types import EVERY_TENANT, EveryTenant, TenantScope

Row = Mapping[str, Any]
Scalar = str | int | float | bool | datetime | bytes | None

MAX_WRITES: Final = 4096
MAX_PAGE: Final = 1000


class ColumnType(Enum):
    """The types every backend keeps exactly."""

    TEXT = "text"  # Unicode without NUL
    INTEGER = "integer"  # 64 bits, signed
    REAL = "real"  # IEEE double, finite
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"  # aware UTC, microseconds
    BYTES = "bytes"
    JSON = "json"  # objects and arrays; NULL is SQL NULL


_PYTHON_TYPES: Final[dict[type, ColumnType]] = {
    str: ColumnType.TEXT,
    int: ColumnType.INTEGER,
    float: ColumnType.REAL,
    bool: ColumnType.BOOLEAN,
    datetime: ColumnType.TIMESTAMP,
    bytes: ColumnType.BYTES,
    dict: ColumnType.JSON,
    list: ColumnType.JSON,
    tuple: ColumnType.JSON,
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, whether it may be NULL, and what rows get that were there before it, where it may not."""

    name: str
    type: ColumnType
    nullable: bool = False
    default: str | int | float | bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table's shape, from which backends build theirs.

    `tenant` is the column that every tenant-bound operation is limited by; None for tables that belong to no tenant.
    `unique` lists column sets no two rows may share; a NULL member lifts the constraint for that row.
    `indexes` lists column sets that are filtered or ordered by. `versioned` tables have an INTEGER column `version` that starts
    at 1 and grows by one with every update.
    """

    name: str
    columns: tuple[Column, ...]
    key: str = "id"
    tenant: str | None = "tenant_id"
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    versioned: bool = True

    def __hash__(self) -> int:
        """Of the name: what is known of a table is looked up for every value of every row, and hashing all columns took most of that."""
        return hash(self.name)

    @classmethod
    def of(
        cls,
        name: str,
        entity: type,
        *,
        key: str = "id",
        tenant: str | None = "tenant_id",
        unique: Sequence[Sequence[str]] = (),
        indexes: Sequence[Sequence[str]] = (),
    ) -> Table:
        """The table of a frozen dataclass: a column per field, types from its annotations.

        Raises: TypeError when a field's type has no column type.
        """
        hints = get_type_hints(entity)
        columns = tuple(_column(field.name, hints[field.name], field.default) for field in fields(entity))
        names = {column.name for column in columns}
        for column in [key, *([tenant] if tenant else []), *(c for group in (*unique, *indexes) for c in group)]:
            if column not in names:
                raise TypeError(f"table {name} names a column {column} that {entity.__name__} lacks")
        groups = tuple(tuple(group) for group in unique), tuple(tuple(group) for group in indexes)
        return cls(name, columns, key, tenant, *groups, versioned="version" in names)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises: KeyError when there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")


def _column(name: str, hint: Any, default: Any) -> Column:
    nullable = False
    default = default if isinstance(default, str | int | float) else None
    if get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in get_args(hint) if part is not type(None)]
        nullable = len(parts) < len(get_args(hint))
        if len(parts) != 1:
            raise TypeError(f"field {name}: a union of several types has no column type")
        hint = parts[0]
    if isinstance(hint, NewType):
        hint = hint.__supertype__
    if get_origin(hint) is Literal:
        hint = type(get_args(hint)[0])
    base = get_origin(hint) or hint
    if base in _PYTHON_TYPES:
        return Column(name, _PYTHON_TYPES[base], nullable, default)
    if isinstance(base, type) and issubclass(base, Mapping | Sequence):
        return Column(name, ColumnType.JSON, nullable, default)
    raise TypeError(f"field {name}: {hint!r} has no column type")


# --- filters: a typed tree; backends compile it to parameters, never to text -------------------------------------------

Operator = Literal["eq", "ne", "in", "lt", "le", "gt", "ge", "is_null", "not_null"]


class DbNow:
    """The database's clock plus `seconds`, as a value in a filter or a write: leases never depend on a replica's clock."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison. `value` is a tuple for `in`, ignored for `is_null` and `not_null`. Comparing with NULL is never true."""

    column: str
    operator: Operator
    value: Scalar | DbNow | tuple[Scalar, ...] = None


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; true when empty."""

    parts: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """Some part holds; false when empty."""

    parts: tuple[Filter, ...] = ()


Filter = Compare | And | Or
ALL: Final = And()


def eq(**columns: Scalar) -> Filter:
    """The filter that every named column equals its value (IS NULL for None)."""
    return And(
        tuple(Compare(c, "is_null") if v is None else Compare(c, "eq", v) for c, v in columns.items()),
    )


@dataclass(frozen=True, slots=True)
class Order:
    """Sort by a column that can't be NULL."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A page: rows where `where`, sorted by `order` and then by key (in the direction of the last order), after the row whose
    sort values (one per order, then the key) are `after`. `limit` is 1..1000.
    """

    where: Filter = ALL
    order: tuple[Order, ...] = ()
    limit: int = 50
    after: tuple[Scalar, ...] | None = None


# --- writes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row; the whole commit fails with AlreadyExists if its key or unique values are taken.

    With `ignore_existing` a row whose key is taken is left as it is (event rows appended twice).
    """

    table: Table
    row: Row
    ignore_existing: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Change columns of one row, adding one to `version` where the table has one.

    Fails the whole commit with NotFound when the row is missing or another tenant's, with VersionConflict when
    `expected_version` differs or `where` does not hold.
    """

    table: Table
    tenant: TenantScope
    key: str
    changes: Row
    expected_version: int | None = None
    where: Filter = ALL


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one row; fails as Update does, unless `missing_ok` and the row does not exist."""

    table: Table
    tenant: TenantScope
    key: str
    expected_version: int | None = None
    where: Filter = ALL
    missing_ok: bool = False


@dataclass(frozen=True, slots=True)
class Require:
    """The row exists and `where` holds until the commit is done (a shared lock on PostgreSQL). Fails as Update does."""

    table: Table
    tenant: TenantScope
    key: str
    where: Filter = ALL


@dataclass(frozen=True, slots=True)
class DeleteWhere:
    """Remove every row of one tenant (or of all) that matches; removes none when none does. For expiry and cascades."""

    table: Table
    tenant: TenantScope
    where: Filter


Write = Insert | Update | Delete | Require | DeleteWhere


@dataclass(frozen=True, slots=True)
class Question:
    """A named read beyond the contract: aggregates and joins. One statement per SQL dialect, one function for memory.

    `statements` maps a dialect (`postgresql`, `sqlite`, `bigquery`, or `sql` for all) to text with `:name` parameters; `warehouse` is
    the text for what was exported there.
    `memory` gets a reader of whole tables by name and the parameters. `columns` gives the result's column types.
    Both see only what they are given: a question about a tenant's rows takes the tenant as a parameter.
    """

    name: str
    columns: tuple[Column, ...]
    statements: Mapping[str, str]
    memory: typing.Callable[[typing.Callable[[str], Sequence[Row]], Mapping[str, Any]], Sequence[Row]]


class RowReader(Protocol):
    """What pages can be read from: a storage, or its rows as they were at one moment."""

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        """As `Storage.find`."""
        ...


class OwnSchema(ABC):
    """The schema of a backend that Alembic doesn't know: made from the tables' descriptions, and only ever added to."""

    @abstractmethod
    def bring_to(self, tables: Sequence[Table], revision: str) -> None:
        """Make what is missing and note the revision. Safe to repeat. Raises: StorageUnavailable."""

    @abstractmethod
    def make(self, tables: Sequence[Table]) -> None:
        """Make what is missing of these tables, noting no revision: for tests. Raises: StorageUnavailable."""

    @abstractmethod
    def revision(self) -> str | None:
        """The revision that was noted last; None where none was. Raises: StorageUnavailable."""


class Storage(ABC):
    """One backend, safe to use from many threads. Opened once per process, connected on first use.

    Every operation **raises** StorageUnavailable (with `retry_after_seconds`) when the backend can't be reached in time, and a commit
    TooManyWrites when there are more of them than it takes.
    """

    backend: str
    """`memory`, `sqlite`, `postgresql` or `bigquery`; shown in logs, health and metrics."""

    commit_seconds: float = 0.0
    """How long a commit takes lately, where that is so long that writers must hear of it; else 0."""

    own_schema: OwnSchema | None = None
    """How this backend's schema is kept, where not by Alembic."""

    @abstractmethod
    def get(self, table: Table, tenant: TenantScope, key: str) -> Row | None:
        """The row of that key, or None when it is missing or another tenant's."""

    @abstractmethod
    def get_many(self, table: Table, tenant: TenantScope, keys: Sequence[str]) -> dict[str, Row]:
        """The rows of those keys that exist, by key. At most 1000 keys."""

    @abstractmethod
    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        """One page of rows in order."""

    @abstractmethod
    def at_one_moment(self) -> AbstractContextManager[RowReader]:
        """All rows as they are when the block begins, whatever is committed while it lasts, which may be hours."""

    @abstractmethod
    def count(self, table: Table, tenant: TenantScope, where: Filter = ALL) -> int:
        """How many rows match."""

    @abstractmethod
    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        """Apply the writes in order, all or none, and make them durable. 1..4096 writes, short: no more than one transaction
        should hold. The gate is asked inside the commit, and changes are noted for who listens (storage/gate.py).

        Returns the row as stored for Insert, Update and Require, None for Delete, DeleteWhere and for an Insert that was ignored.
        Raises: AlreadyExists, NotFound, VersionConflict when a write's condition fails; WritesPaused; OutcomeUnknown when the
        connection died during the commit and asking again didn't settle it.
        """

    @abstractmethod
    def append(self, table: Table, rows: Sequence[Row]) -> None:
        """Add event rows; rows whose key exists are left alone, so that repeating the call is harmless."""

    @abstractmethod
    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        """Answer a named question."""

    @abstractmethod
    def now(self) -> datetime:
        """The database's clock, aware UTC."""

    @abstractmethod
    def ping(self) -> float:
        """Seconds of one round trip."""

    def shred(self) -> tuple[str, ...]:
        """Overwrite what was deleted, as far as this backend can; returns where it may still be found, a sentence each."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """Give connections back; the object is of no use afterwards."""


__all__ = [
    "ALL",
    "EVERY_TENANT",
    "And",
    "Column",
    "ColumnType",
    "Compare",
    "DbNow",
    "Delete",
    "DeleteWhere",
    "EveryTenant",
    "Filter",
    "Insert",
    "Or",
    "Order",
    "OwnSchema",
    "Query",
    "Question",
    "Require",
    "Row",
    "Scalar",
    "Storage",
    "Table",
    "TenantScope",
    "Update",
    "Write",
    "eq",
]
