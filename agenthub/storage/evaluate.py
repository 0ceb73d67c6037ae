"""Filters and orders over plain rows: what the memory backend runs, and the meaning the SQL backends are tested against."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agenthub.storage.contract import And, Column, Compare, DbNow, Filter, Or, Row

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def instant(value: DbNow, now: datetime) -> datetime:
    """The moment that a DbNow stands for."""
    return now + timedelta(seconds=value.seconds)


def matches(row: Row, where: Filter, now: datetime) -> bool:
    """Whether a checked filter holds for the row."""
    if isinstance(where, And):
        return all(matches(row, part, now) for part in where.parts)
    if isinstance(where, Or):
        return any(matches(row, part, now) for part in where.parts)
    return _compare(row[where.column], where, now)


def _compare(stored: Any, where: Compare, now: datetime) -> bool:
    if where.operator == "is_null":
        return stored is None
    if where.operator == "not_null":
        return stored is not None
    if stored is None:
        return False
    if where.operator == "in":
        return isinstance(where.value, tuple) and stored in where.value
    value = instant(where.value, now) if isinstance(where.value, DbNow) else where.value
    return _COMPARISONS[where.operator](stored, value)


def in_order(rows: Iterable[Row], order: Sequence[tuple[Column, bool]]) -> list[Row]:
    """The rows sorted by the columns, each with its direction (True: descending)."""
    result = list(rows)
    for column, descending in reversed(order):
        name = column.name
        result.sort(key=lambda row: row[name], reverse=descending)
    return result


def comes_after(row: Row, order: Sequence[tuple[Column, bool]], after: Sequence[Any]) -> bool:
    """Whether the row sorts strictly after the values."""
    for (column, descending), value in zip(order, after, strict=True):
        stored = row[column.name]
        if stored != value:
            return bool(stored < value) if descending else bool(stored > value)
    return False
