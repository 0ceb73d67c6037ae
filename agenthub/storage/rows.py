"""What may be stored: values are checked and brought to one form before any backend sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from agenthub.core.errors import AlreadyExists, InvalidInput
from agenthub.storage.contract import (
    MAX_PAGE,
    And,
    Column,
    ColumnType,
    Compare,
    DbNow,
    EveryTenant,
    Filter,
    Or,
    Query,
    Row,
    Table,
    TenantScope,
)

MAX_JSON_DEPTH: Final = 64
MAX_INDEXED_BYTES: Final = 2000
"""Of one text or bytes column in a key, unique set or index: PostgreSQL's B-tree takes 2704 bytes an entry."""

NEVER: Final = Or()
_INTEGERS: Final = range(-(2**63), 2**63)
_JSON_INTEGERS: Final = range(-(2**63), 2**64)


def stored_row(table: Table, row: Row) -> dict[str, Any]:
    """The row as every backend will store it: all columns in table order, None where nullable and left out, `version` 1.

    Raises: InvalidInput naming the column when a value does not fit it.
    """
    known = _columns(table)
    _refuse_unknown(table, known, row)
    values = {name: stored_value(table, column, row.get(name)) for name, column in known.items() if name != "version"}
    if "version" in known:
        version = known["version"]
        values["version"] = stored_value(table, version, row.get("version", 1 if table.versioned else None))
    return {name: values[name] for name in known}


def stored_changes(table: Table, changes: Row) -> dict[str, Any]:
    """The changed columns as every backend will store them.

    Raises: InvalidInput naming the column when a value does not fit it, or it is the key, the tenant or the version.
    """
    known = _columns(table)
    _refuse_unknown(table, known, changes)
    fixed = {table.key, table.tenant, "version" if table.versioned else None}
    for name in changes:
        if name in fixed:
            raise InvalidInput(f"{table.name}.{name} can't be changed", field=name)
    return {name: stored_value(table, known[name], value) for name, value in changes.items()}


def stored_value(table: Table, column: Column, value: Any) -> Any:
    """The value as the column keeps it; DbNow stays as it is.

    Raises: InvalidInput when it does not fit.
    """
    if value is None:
        if not column.nullable:
            raise InvalidInput(f"{table.name}.{column.name} is missing", field=column.name)
        return None
    if isinstance(value, DbNow):
        if column.type is not ColumnType.TIMESTAMP:
            raise _unfit(column.name, "does not hold a time")
        return value
    result = _CHECKS[column.type](column.name, value)
    if column.name in _indexed(table) and _size(result) > MAX_INDEXED_BYTES:
        raise _unfit(column.name, f"is longer than {MAX_INDEXED_BYTES} bytes")
    return result


def storable_text(text: str) -> bool:
    """Whether a text can be in any row: valid Unicode without NUL."""
    if "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def tenant_value(table: Table, tenant: TenantScope) -> str | None:
    """The tenant to limit by, None for every tenant.

    Raises: InvalidInput when the table has no tenants but one is named: it could not be honoured.
    """
    if isinstance(tenant, EveryTenant):
        return None
    if table.tenant is None:
        raise InvalidInput(f"{table.name} belongs to no tenant: ask with EVERY_TENANT")
    return tenant


def checked_filter(table: Table, where: Filter) -> Filter:
    """The filter with its values as stored; a comparison that can't be true becomes NEVER.

    Raises: InvalidInput when a column is unknown, a value does not fit it, or an operator is not for its type.
    """
    if isinstance(where, And):
        return And(tuple(checked_filter(table, part) for part in where.parts))
    if isinstance(where, Or):
        return Or(tuple(checked_filter(table, part) for part in where.parts))
    column = known_column(table, where.column)
    if where.operator in ("is_null", "not_null"):
        return Compare(where.column, where.operator)
    if column.type is ColumnType.JSON:
        raise _unfit(where.column, "can't be compared")
    if where.operator == "in":
        return _checked_in(table, column, where)
    if where.value is None:
        return NEVER
    return Compare(where.column, where.operator, stored_value(table, column, where.value))


def _checked_in(table: Table, column: Column, where: Compare) -> Filter:
    if not isinstance(where.value, tuple | list | set | frozenset):
        raise _unfit(column.name, "needs a tuple for `in`")
    values = [stored_value(table, column, value) for value in where.value if value is not None]
    if any(isinstance(value, DbNow) for value in values):
        raise _unfit(column.name, "can't be compared with the clock by `in`")
    return Compare(column.name, "in", tuple(values)) if values else NEVER


def checked_query(table: Table, query: Query) -> tuple[Filter, list[tuple[Column, bool]], tuple[Any, ...] | None]:
    """The filter, the sort columns with their directions (the key last), and the row to start after.

    Raises: InvalidInput when the limit is not 1..1000, a sort column can be NULL or is JSON, or `after` does not fit the order.
    """
    if not 1 <= query.limit <= MAX_PAGE:
        raise InvalidInput(f"a page holds 1 to {MAX_PAGE} rows", field="limit")
    order = [(known_column(table, part.column), part.descending) for part in query.order]
    for column, _ in order:
        if column.nullable or column.type is ColumnType.JSON:
            raise _unfit(column.name, "can't be sorted by")
    order.append((known_column(table, table.key), order[-1][1] if order else False))
    after = query.after
    if after is not None:
        if len(after) != len(order):
            raise InvalidInput("the cursor does not fit the order")
        after = tuple(_cursor_value(table, column, value) for (column, _), value in zip(order, after, strict=True))
    return checked_filter(table, query.where), order, after


def _cursor_value(table: Table, column: Column, value: Any) -> Any:
    if isinstance(value, DbNow):
        raise _unfit(column.name, "can't start after the clock")
    return stored_value(table, column, value)


def already_exists(table: Table, columns: Sequence[str]) -> AlreadyExists:
    """The error for a taken key or unique set; its field is the first column that is not the tenant."""
    own = [column for column in columns if column != table.tenant]
    return AlreadyExists(table.name, columns, field=(own or columns)[0])


def check_versioned(table: Table, version: int | None) -> None:
    """Return if the table can be asked for this version.

    Raises: InvalidInput when a version is expected of a table that has none.
    """
    if version is not None and not table.versioned:
        raise InvalidInput(f"{table.name} has no versions")


def known_column(table: Table, name: str) -> Column:
    """The column of that name.

    Raises: InvalidInput when the table has none.
    """
    column = _columns(table).get(name)
    if column is None:
        raise InvalidInput(f"{table.name} has no column {name}", field=name)
    return column


@lru_cache(maxsize=512)
def _columns(table: Table) -> dict[str, Column]:
    return {column.name: column for column in table.columns}


@lru_cache(maxsize=512)
def _indexed(table: Table) -> frozenset[str]:
    return frozenset([table.key, *(name for group in (*table.unique, *table.indexes) for name in group)])


def _refuse_unknown(table: Table, known: Mapping[str, Column], row: Row) -> None:
    for name in row:
        if name not in known:
            raise InvalidInput(f"{table.name} has no column {name}", field=name)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    return len(value) if isinstance(value, bytes) else 0


def _unfit(name: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{name} {problem}", field=name)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _unfit(name, "is not text")
    if not storable_text(value):
        raise _unfit(name, "holds a NUL character or broken Unicode")
    return value if type(value) is str else str.__str__(value)


def _integer(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unfit(name, "is not a whole number")
    if value not in _INTEGERS:
        raise _unfit(name, "is outside 64 bits")
    return int(value)


def _real(name: str, value: Any) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise _unfit(name, "is not a number")
    try:
        number = float(value) + 0.0  # -0.0 becomes 0.0: SQLite does not keep the sign
    except OverflowError as error:
        raise _unfit(name, "is too large a number") from error
    if not math.isfinite(number):
        raise _unfit(name, "is not finite")
    return number


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unfit(name, "is neither true nor false")
    return value


def _timestamp(name: str, value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None or value.utcoffset() is None:
        raise _unfit(name, "is not a time with a zone")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise _unfit(name, "is outside the years 1 to 9999") from error


def _bytes(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _unfit(name, "is not bytes")
    return bytes(value)


def _json(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping | list | tuple):
        raise _unfit(name, "is neither an object nor an array")
    return _json_part(name, value, 0)


def _json_part(name: str, value: Any, depth: int) -> Any:
    if depth > MAX_JSON_DEPTH:
        raise _unfit(name, f"is nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_text(name, key): _json_part(name, item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_part(name, item, depth + 1) for item in value]
    return _json_scalar(name, value)


def _json_scalar(name: str, value: Any) -> str | float | int | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, float):
        return _real(name, value)
    if isinstance(value, int):
        if value not in _JSON_INTEGERS:
            raise _unfit(name, "holds a number outside 64 bits")
        return int(value)
    raise _unfit(name, f"holds a {type(value).__name__}, which JSON has no form for")


_CHECKS: Final[dict[ColumnType, Callable[[str, Any], Any]]] = {
    ColumnType.TEXT: _text,
    ColumnType.INTEGER: _integer,
    ColumnType.REAL: _real,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.TIMESTAMP: _timestamp,
    ColumnType.BYTES: _bytes,
    ColumnType.JSON: _json,
}
