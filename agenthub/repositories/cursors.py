"""Opaque cursors of paged lists: where a page ended, bound to the list it belongs to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from agenthub.core.errors import MalformedInput
from agenthub.core.json import dumps, loads
from agenthub.storage.contract import Column, ColumnType, Order, Row, Scalar, Table


def encode_cursor(table: Table, order: Sequence[Order], row: Row) -> str:
    """The cursor after `row`."""
    values = [_plain(row[name]) for name in _names(table, order)]
    return base64.urlsafe_b64encode(dumps([_list_name(table, order), *values])).rstrip(b"=").decode()


def decode_cursor(table: Table, order: Sequence[Order], cursor: str) -> tuple[Scalar, ...]:
    """The sort values a cursor stands for.

    Raises: MalformedInput, field `cursor`, when it was not made by `encode_cursor` for the same table and order.
    """
    refusal = MalformedInput("this cursor was not given out by this list", field="cursor")
    try:
        parts = loads(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, MalformedInput) as error:
        raise refusal from error
    columns = [table.column(name) for name in _names(table, order)]
    if not isinstance(parts, list) or len(parts) != len(columns) + 1 or parts[0] != _list_name(table, order):
        raise refusal
    try:
        return tuple(_typed(column, value) for column, value in zip(columns, parts[1:], strict=True))
    except (TypeError, ValueError, OverflowError) as error:
        raise refusal from error


def _names(table: Table, order: Sequence[Order]) -> list[str]:
    return [*(o.column for o in order), table.key]


def _list_name(table: Table, order: Sequence[Order]) -> str:
    return ".".join([table.name, *(f"{'-' if o.descending else ''}{o.column}" for o in order)])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.hex() if isinstance(value, bytes) else value


_PLAIN_TYPES: dict[ColumnType, tuple[type, ...]] = {
    ColumnType.TEXT: (str,),
    ColumnType.INTEGER: (int,),
    ColumnType.REAL: (float, int),
    ColumnType.BOOLEAN: (bool,),
    ColumnType.TIMESTAMP: (str,),
    ColumnType.BYTES: (str,),
}


def _typed(column: Column, value: Any) -> Scalar:
    if type(value) not in _PLAIN_TYPES[column.type]:
        raise TypeError(f"{column.name} is not a {column.type.value}")
    if column.type is ColumnType.INTEGER and not -(2**63) <= value < 2**63:
        raise ValueError("out of range")
    if column.type is ColumnType.TEXT and "\x00" in value:
        raise ValueError("NUL")
    if column.type is ColumnType.TIMESTAMP:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("a time without zone")
        return moment.astimezone(UTC)
    if column.type is ColumnType.BYTES:
        return bytes.fromhex(value)
    return value if isinstance(value, str | int | float | bool) else None
