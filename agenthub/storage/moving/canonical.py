"""The one form of a row whatever the backend, and hashes over it: equal hashes are equal rows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agenthub.core import json
from agenthub.core.errors import InvalidInput, MalformedInput
from agenthub.storage.contract import Column, ColumnType, Row, Table
from agenthub.storage.rows import stored_row


def plain(table: Table, row: Row) -> dict[str, Any]:
    """The row as JSON can hold it: times in RFC 3339 with microseconds, bytes in base64."""
    return {column.name: _plain(column, row[column.name]) for column in table.columns}


def _plain(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.type is ColumnType.TIMESTAMP:
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if column.type is ColumnType.BYTES:
        return base64.b64encode(value).decode()
    return value


def revived(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """The row that `plain` made these values of, checked as any row is.

    Raises: InvalidInput naming the column; MalformedInput for what is no time or no base64.
    """
    for name in values:
        if not any(column.name == name for column in table.columns):
            raise InvalidInput(f"{table.name} has no column {name}", field=name)
    given = {column.name: _revived(column, values[column.name]) for column in table.columns if column.name in values}
    return stored_row(table, given)


def _revived(column: Column, value: Any) -> Any:
    if value is None or column.type not in (ColumnType.TIMESTAMP, ColumnType.BYTES):
        return float(value) if column.type is ColumnType.REAL and type(value) is int else value
    if not isinstance(value, str):
        raise MalformedInput(f"{column.name} is not text", field=column.name)
    try:
        return datetime.fromisoformat(value) if column.type is ColumnType.TIMESTAMP else base64.b64decode(value, validate=True)
    except ValueError as error:
        raise MalformedInput(f"{column.name} can't be read", field=column.name) from error


def encoded(table: Table, row: Row) -> bytes:
    """The one byte string of a row."""
    return json.canonical(plain(table, row))


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows, and the hex SHA-256 over their forms in key order."""

    count: int
    sha256: str


class Summing:
    """Sums up rows that come in key order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, form: bytes) -> None:
        """One more row, in its canonical form."""
        self.count += 1
        self._hash.update(hashlib.sha256(form).digest())

    @property
    def sum(self) -> Sum:
        """What came so far."""
        return Sum(self.count, self._hash.hexdigest())


def content_sha256(sums: Mapping[str, Sum]) -> str:
    """One hash over the sums of all tables, by name."""
    return json.digest({name: [one.count, one.sha256] for name, one in sums.items()})
