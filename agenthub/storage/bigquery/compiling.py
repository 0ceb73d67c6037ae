"""Filters and pages as BigQuery's SQL: values are always parameters, names only those of our own tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from google.cloud.bigquery import ScalarQueryParameter

from agenthub.storage.bigquery.values import Parameter, array, scalar
from agenthub.storage.contract import And, Column, ColumnType, Compare, DbNow, Filter, Or, Query, Table, TenantScope
from agenthub.storage.evaluate import instant
from agenthub.storage.rows import checked_filter, checked_query, known_column, storable_text, tenant_value

_SIGNS: Final = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_MOMENT: Final = Column("moment", ColumnType.TIMESTAMP)
_MICROSECONDS: Final = 1_000_000


class Statement:
    """SQL in the making with the parameters it uses. `prefix` keeps the names of several apart."""

    def __init__(self, prefix: str = "p") -> None:
        self.parameters: list[Parameter] = []
        self._prefix = prefix

    def name(self) -> str:
        """A parameter name that is not taken."""
        return f"{self._prefix}{len(self.parameters)}"

    def add(self, parameter: Parameter) -> str:
        """Use the parameter; how SQL refers to it."""
        self.parameters.append(parameter)
        return f"@{parameter.name}"

    def value(self, column: Column, value: Any) -> str:
        """The value as a parameter."""
        return self.add(scalar(self.name(), column, value))

    def values(self, column: Column, values: Sequence[Any]) -> str:
        """The values as one array parameter."""
        return self.add(array(self.name(), column, values))

    def clock(self, value: DbNow) -> str:
        """The database's clock, moved."""
        moved = self.add(ScalarQueryParameter(self.name(), "INT64", round(value.seconds * _MICROSECONDS)))
        return f"TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL {moved} MICROSECOND)"


def name_of(table: Table | str) -> str:
    """The table in SQL; its dataset is the job's default."""
    return f"`{table if isinstance(table, str) else table.name}`"


def columns_of(columns: Sequence[Column], alias: str = "t") -> str:
    """The columns in a select list."""
    return ", ".join(f"{alias}.`{column.name}`" for column in columns)


def owned(statement: Statement, table: Table, tenant: TenantScope) -> str:
    """The condition that a row belongs to the tenant."""
    owner = tenant_value(table, tenant)
    if owner is None or table.tenant is None:
        return "TRUE"
    if not storable_text(owner):
        return "FALSE"
    return f"t.`{table.tenant}` = {statement.value(table.column(table.tenant), owner)}"


def holds(statement: Statement, table: Table, where: Filter, now: datetime | None = None) -> str:
    """The condition of a filter; `now` stands for the clock where it must be the same as elsewhere.

    Raises: InvalidInput when the filter does not fit the table.
    """
    return _holds(statement, table, checked_filter(table, where), now)


def _holds(statement: Statement, table: Table, where: Filter, now: datetime | None) -> str:
    if isinstance(where, And):
        return "(" + " AND ".join(_holds(statement, table, part, now) for part in where.parts) + ")" if where.parts else "TRUE"
    if isinstance(where, Or):
        return "(" + " OR ".join(_holds(statement, table, part, now) for part in where.parts) + ")" if where.parts else "FALSE"
    return _compare(statement, known_column(table, where.column), where, now)


def _compare(statement: Statement, column: Column, where: Compare, now: datetime | None) -> str:
    name = f"t.`{column.name}`"
    if where.operator == "is_null":
        return f"{name} IS NULL"
    if where.operator == "not_null":
        return f"{name} IS NOT NULL"
    if where.operator == "in":
        values = where.value if isinstance(where.value, tuple) else ()
        return f"{name} IN UNNEST({statement.values(column, values)})"
    value = where.value
    if isinstance(value, DbNow):
        moved = statement.clock(value) if now is None else statement.value(column, instant(value, now))
        return f"{name} {_SIGNS[where.operator]} {moved}"
    return f"{name} {_SIGNS[where.operator]} {statement.value(column, value)}"


def page(statement: Statement, table: Table, tenant: TenantScope, query: Query, moment: datetime | None = None) -> str:
    """The select of one page; of the rows as they were at `moment`, if one is given.

    Raises: InvalidInput when the query does not fit the table.
    """
    where, order, after = checked_query(table, query)
    conditions = [owned(statement, table, tenant), _holds(statement, table, where, None)]
    if after is not None:
        conditions.append(_later(statement, order, after))
    sort = ", ".join(f"t.`{column.name}`{' DESC' if descending else ''}" for column, descending in order)
    travel = ""
    if moment is not None:
        travel = f" FOR SYSTEM_TIME AS OF {statement.value(_MOMENT, moment)}"
    # Names are of our own tables; values are parameters.
    return (
        f"SELECT {columns_of(table.columns)} FROM {name_of(table)} AS t{travel}"  # noqa: S608
        f" WHERE {' AND '.join(conditions)} ORDER BY {sort} LIMIT {query.limit:d}"
    )


def _later(statement: Statement, order: Sequence[tuple[Column, bool]], after: Sequence[Any]) -> str:
    """The row sorts after the values: the first differing column decides."""
    values = [statement.value(column, value) for (column, _), value in zip(order, after, strict=True)]
    names = [f"t.`{column.name}`" for column, _ in order]
    choices = []
    for position, (_, descending) in enumerate(order):
        same = [f"{name} = {value}" for name, value in zip(names[:position], values[:position], strict=True)]
        sign = "<" if descending else ">"
        choices.append("(" + " AND ".join([*same, f"{names[position]} {sign} {values[position]}"]) + ")")
    return "(" + " OR ".join(choices) + ")"
