"""Reads that every request makes, compiled once: building and keying a statement costs more than the database takes to answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from agenthub.storage.contract import Column, ColumnType, Row, Table
from agenthub.storage.sql.tables import column_type

Convert = Callable[[Any], Any] | None


class PreparedRead:
    """One statement for one dialect. Its parameters are texts and whole numbers, which drivers take as they are."""

    def __init__(self, statement: sa.Select[Any] | sa.TextualSelect, columns: Sequence[Column], dialect: sa.Dialect) -> None:
        """`columns` are the statement's columns in its order."""
        compiled: Any = statement.compile(dialect=dialect)
        self._text: str = compiled.string
        self._fixed: Mapping[str, Any] = compiled.params
        self._order: Sequence[str] | None = compiled.positiontup
        self._dialect = dialect
        self._columns: list[tuple[str, Convert]] = [(column.name, _conversion(column.type, dialect)) for column in columns]

    def rows(self, connection: sa.Connection, parameters: Mapping[str, str | int | None]) -> list[Row]:
        """The rows for these parameters.

        Raises: sa.exc.DBAPIError, as a statement run by SQLAlchemy does.
        """
        values: Any = {**self._fixed, **parameters}
        if self._order is not None:
            values = [values[name] for name in self._order]
        cursor = connection.connection.cursor()
        try:
            cursor.execute(self._text, values)
            found = cursor.fetchall()
        except self._errors as error:
            raise self._wrapped(error, connection) from error
        finally:
            cursor.close()
        return [self._row(values) for values in found]

    def _row(self, values: Sequence[Any]) -> Row:
        return {name: value if convert is None else convert(value) for (name, convert), value in zip(self._columns, values, strict=True)}

    @property
    def _errors(self) -> type[Exception]:
        driver: Any = self._dialect.dbapi
        kind: type[Exception] = driver.Error
        return kind

    def _wrapped(self, error: Exception, connection: sa.Connection) -> BaseException:
        lost = self._dialect.is_disconnect(error, connection.connection.driver_connection, None)  # type: ignore[arg-type]
        return sa.exc.DBAPIError.instance(self._text, None, error, self._errors, connection_invalidated=lost, dialect=self._dialect)


def prepared_get(table: Table, target: sa.Table, dialect: sa.Dialect, *, of_tenant: bool) -> PreparedRead:
    """The row whose key is `key`; with `of_tenant`, only if it belongs to `tenant`."""
    statement = sa.select(target).where(target.c[table.key] == sa.bindparam("key"))
    if of_tenant and table.tenant is not None:
        statement = statement.where(target.c[table.tenant] == sa.bindparam("tenant"))
    return PreparedRead(statement, table.columns, dialect)


def _conversion(kind: ColumnType, dialect: sa.Dialect) -> Convert:
    """What makes a value of the driver's; texts and numbers are what they should be on both databases."""
    if kind in (ColumnType.TEXT, ColumnType.INTEGER, ColumnType.REAL):
        return None
    convert: Convert = column_type(kind).dialect_impl(dialect).result_processor(dialect, None)
    return convert
