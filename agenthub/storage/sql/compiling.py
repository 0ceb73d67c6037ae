"""Contract filters and queries as SQLAlchemy expressions; every value is a bound parameter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from agenthub.core.types import TenantScope
from agenthub.storage.contract import And, Column, Compare, DbNow, Filter, Or, Query, Table
from agenthub.storage.rows import checked_filter, checked_query, storable_text, tenant_value

Condition = sa.ColumnElement[bool]
Clock = Callable[[DbNow], sa.ColumnElement[Any]]

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Condition]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def owned(table: Table, target: sa.Table, tenant: TenantScope) -> Condition:
    """The condition that a row is the tenant's."""
    owner = tenant_value(table, tenant)
    if owner is None or table.tenant is None:
        return sa.true()
    return target.c[table.tenant] == owner if storable_text(owner) else sa.false()


def keyed(table: Table, target: sa.Table, tenant: TenantScope, key: str) -> Condition:
    """The condition that a row is the tenant's and has the key."""
    return sa.and_(target.c[table.key] == key if storable_text(key) else sa.false(), owned(table, target, tenant))


def holds(table: Table, target: sa.Table, where: Filter, clock: Clock) -> Condition:
    """The filter as a condition.

    Raises: InvalidInput when the filter does not fit the table.
    """
    return _condition(target, checked_filter(table, where), clock)


def _condition(target: sa.Table, where: Filter, clock: Clock) -> Condition:
    if isinstance(where, And):
        return sa.and_(sa.true(), *(_condition(target, part, clock) for part in where.parts))
    if isinstance(where, Or):
        return sa.or_(sa.false(), *(_condition(target, part, clock) for part in where.parts))
    return _compare(target.c[where.column], where, clock)


def _compare(column: sa.Column[Any], where: Compare, clock: Clock) -> Condition:
    match where.operator:
        case "is_null":
            return column.is_(None)
        case "not_null":
            return column.is_not(None)
        case "in":
            return column.in_(where.value if isinstance(where.value, tuple) else ())
        case _:
            value = clock(where.value) if isinstance(where.value, DbNow) else _bound(column, where.value)
            return _COMPARISONS[where.operator](column, value)


def _bound(column: sa.Column[Any], value: Any) -> sa.BindParameter[Any]:
    # Said in so many words: SQLAlchemy would write True as IS true, and refuse to order by it.
    return sa.bindparam(None, value, column.type)


def page(table: Table, target: sa.Table, tenant: TenantScope, query: Query, clock: Clock) -> sa.Select[Any]:
    """The statement of one page.

    Raises: InvalidInput when the query does not fit the table.
    """
    where, order, after = checked_query(table, query)
    statement = sa.select(target).where(owned(table, target, tenant), _condition(target, where, clock))
    if after is not None:
        statement = statement.where(_beyond(target, order, after))
    for column, descending in order:
        sorted_by = target.c[column.name]
        statement = statement.order_by(sorted_by.desc() if descending else sorted_by.asc())
    return statement.limit(query.limit)


def _beyond(target: sa.Table, order: Sequence[tuple[Column, bool]], after: Sequence[Any]) -> Condition:
    columns = [target.c[column.name] for column, _ in order]
    values = [_bound(column, value) for column, value in zip(columns, after, strict=True)]
    directions = {descending for _, descending in order}
    if len(directions) == 1:
        # A row comparison lets both databases walk one index; SQL has none for mixed directions.
        left = sa.tuple_(*columns)
        right = sa.tuple_(*values)
        return left < right if True in directions else left > right
    cases: list[Condition] = []
    for position, (column, (_, descending)) in enumerate(zip(columns, order, strict=True)):
        same = [earlier == value for earlier, value in zip(columns[:position], values, strict=False)]
        cases.append(sa.and_(sa.true(), *same, column < values[position] if descending else column > values[position]))
    return sa.or_(sa.false(), *cases)
