"""SQLAlchemy tables made from contract tables."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from agenthub.storage.contract import Column, ColumnType, Table

NAMING: Final = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
}
MAX_NAME_BYTES: Final = 63  # PostgreSQL cuts longer names silently
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC time with microseconds: timestamptz on PostgreSQL, whole microseconds since 1970 on SQLite."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.BigInteger())
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return microseconds(value)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return _EPOCH + int(value) * _MICROSECOND


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970: how SQLite keeps a time."""
    return (moment - _EPOCH) // _MICROSECOND


def column_type(kind: ColumnType) -> TypeEngine[Any]:
    """The SQLAlchemy type that keeps this column type on both databases."""
    return _TYPES[kind]


_TYPES: Final[dict[ColumnType, TypeEngine[Any]]] = {
    # "C" compares bytes, which in UTF-8 is the order of code points, as SQLite and Python compare.
    ColumnType.TEXT: sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
    ColumnType.INTEGER: sa.BigInteger(),
    ColumnType.REAL: sa.Double(),
    ColumnType.BOOLEAN: sa.Boolean(),
    ColumnType.TIMESTAMP: Instant(),
    ColumnType.BYTES: sa.LargeBinary(),
    ColumnType.JSON: sa.JSON(none_as_null=True),
}


def constraint_name(kind: str, table: Table, columns: Sequence[str] = ()) -> str:
    """The name of a constraint or index: at most 63 bytes, the same on every backend and in every release."""
    name = "_".join([kind, table.name, *columns])
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{name[: MAX_NAME_BYTES - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def sql_table(table: Table, metadata: sa.MetaData) -> sa.Table:
    """The table with its constraints and indexes, added to the metadata."""
    constraints: list[sa.schema.SchemaItem] = [sa.PrimaryKeyConstraint(table.key, name=constraint_name("pk", table))]
    constraints += [sa.UniqueConstraint(*columns, name=constraint_name("uq", table, columns)) for columns in table.unique]
    constraints += [sa.Index(constraint_name("ix", table, columns), *columns) for columns in table.indexes]
    return sa.Table(table.name, metadata, *(_sql_column(column) for column in table.columns), *constraints)


def _sql_column(column: Column) -> sa.Column[Any]:
    return sa.Column(column.name, column_type(column.type), nullable=column.nullable)


def metadata_for(tables: Iterable[Table]) -> sa.MetaData:
    """The schema of these tables: what migrations are drafted from and tests create."""
    metadata = sa.MetaData(naming_convention=NAMING)
    for table in tables:
        sql_table(table, metadata)
    return metadata


class TableSet:
    """The SQLAlchemy tables of one storage, made on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metadata = sa.MetaData(naming_convention=NAMING)
        self._made: dict[Table, sa.Table] = {}
        self._constraints: dict[str, tuple[Table, tuple[str, ...]]] = {}

    def __getitem__(self, table: Table) -> sa.Table:
        made = self._made.get(table)
        return made if made is not None else self._make(table)

    def constraint(self, name: str) -> tuple[Table, tuple[str, ...]] | None:
        """The table and columns of a key or unique constraint."""
        return self._constraints.get(name)

    def constraint_on(self, table_name: str, columns: Sequence[str]) -> tuple[Table, tuple[str, ...]] | None:
        """The table and columns of the key or unique constraint over these columns."""
        for table, constrained in self._constraints.values():
            if table.name == table_name and set(constrained) == set(columns):
                return table, constrained
        return None

    def _make(self, table: Table) -> sa.Table:
        with self._lock:
            if table not in self._made:
                if table.name in self._metadata.tables:  # a second shape of one table: tests and rolling releases have them
                    self._metadata.remove(self._metadata.tables[table.name])
                constraints = {constraint_name("uq", table, columns): (table, columns) for columns in table.unique}
                self._constraints = {**self._constraints, **constraints, constraint_name("pk", table): (table, (table.key,))}
                self._made[table] = sql_table(table, self._metadata)
            return self._made[table]
