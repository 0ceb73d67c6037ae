"""Reads that every request makes, compiled once: building and keying a statement costs more than the database takes to answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import sqlalchemy as sa

from agenthub.storage.contract import Column, ColumnType, Row, Table
from agenthub.storage.sql.tables import column_type

Convert = Callable[[Any], Any] | None
Parameters = Mapping[str, str | int | None]
_CONVERTED_ROWS: Final = 512


class Reader(Protocol):
    """A quick way to the database for single statements that only read."""

    def rows(self, text: str, values: Any, /) -> list[tuple[Any, ...]]:
        """The statement's rows as the driver gives them. Raises: an error of the driver."""
        ...

    def close(self) -> None:
        """Close its connections; it can be used again."""
        ...

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        ...


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
        self._converted: dict[tuple[Any, ...], Row] = {}
        converting = enumerate(self._columns)
        self._json = [
            (place, name, convert)
            for place, (name, convert) in converting
            if convert is not None and columns[place].type is ColumnType.JSON
        ]

    def quick_rows(self, reader: Reader, parameters: Parameters) -> list[Row] | None:
        """The rows for these parameters, or None when the reader fails: then `rows` knows why, or can.

        The database is asked every time; what it says a second time was converted before, but for JSON, which is the caller's own.
        """
        try:
            found = reader.rows(self._text, self._values(parameters))
        except self._errors:
            return None
        return [self._known(values) for values in found]

    def _known(self, values: tuple[Any, ...]) -> Row:
        try:
            row = self._converted.get(values)
        except TypeError:  # bytes, as PostgreSQL's driver gives them
            return self._row(values)
        if row is None:
            if len(self._converted) >= _CONVERTED_ROWS:
                self._converted.clear()
            row = self._converted[values] = self._row(values)
        return {**row, **{name: convert(values[place]) for place, name, convert in self._json}} if self._json else row

    def _values(self, parameters: Parameters) -> Any:
        values = {**self._fixed, **parameters}
        return values if self._order is None else [values[name] for name in self._order]

    def rows(self, connection: sa.Connection, parameters: Parameters) -> list[Row]:
        """The rows for these parameters.

        Raises: sa.exc.DBAPIError, as a statement run by SQLAlchemy does.
        """
        values = self._values(parameters)
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
    """What makes a value of the driver's; texts are what they should be on both databases."""
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    convert: Convert = None if kind is ColumnType.TEXT else column_type(kind).dialect_impl(dialect).result_processor(dialect, None)
    return convert


def _whole(value: Any) -> Any:
    return value if value is None else int(value)


def _real(value: Any) -> Any:
    return value if value is None else float(value)


_NUMBERS: Final[Mapping[ColumnType, Convert]] = {ColumnType.INTEGER: _whole, ColumnType.REAL: _real}
"""PostgreSQL gives sums and averages as decimals."""
