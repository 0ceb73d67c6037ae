"""Values on their way to BigQuery and back: every column type keeps what the contract says it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter, StructQueryParameter

from agenthub.core import json
from agenthub.storage.contract import Column, ColumnType, Row

Parameter = ArrayQueryParameter | ScalarQueryParameter

TYPES: Final[Mapping[ColumnType, str]] = {
    ColumnType.TEXT: "STRING",
    ColumnType.INTEGER: "INT64",
    ColumnType.REAL: "FLOAT64",
    ColumnType.BOOLEAN: "BOOL",
    ColumnType.TIMESTAMP: "TIMESTAMP",
    ColumnType.BYTES: "BYTES",
    # Text, not BigQuery's JSON: that type rounds numbers and forgets whether 1 was 1.0. JSON_VALUE reads text as well.
    ColumnType.JSON: "STRING",
}


def scalar(name: str | None, column: Column, value: Any) -> ScalarQueryParameter:
    """One value as a parameter of its column's type."""
    return ScalarQueryParameter(name, TYPES[column.type], sent(column, value))


def array(name: str, column: Column, values: Iterable[Any]) -> ArrayQueryParameter:
    """Several values of one column."""
    return ArrayQueryParameter(name, TYPES[column.type], [sent(column, value) for value in values])


def table_of(name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> ArrayQueryParameter:
    """Rows as an array of structures with these columns, for `UNNEST`; not for no rows."""
    structures = [
        StructQueryParameter(None, *(scalar(column.name, column, value) for column, value in zip(columns, row, strict=True)))
        for row in rows
    ]
    return ArrayQueryParameter(name, "STRUCT", structures)


def sent(column: Column, value: Any) -> Any:
    """The value as the client takes it."""
    if value is None:
        return None
    if column.type is ColumnType.TIMESTAMP:
        # The client writes years before 1000 without their zeros; text it passes on as it is.
        moment: datetime = value
        return moment.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")
    if column.type is ColumnType.JSON:
        return value.decode() if isinstance(value, bytes) else json.dumps(value).decode()
    return value


def received(columns: Sequence[Column], values: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the contract gives it."""
    return {column.name: _typed(column, values[column.name]) for column in columns}


def kept(columns: Sequence[Column], values: Mapping[str, Any]) -> Row:
    """A row as the memory backend keeps it: JSON as bytes."""
    row = dict(values)
    for column in columns:
        value = row[column.name]
        if column.type is ColumnType.JSON and value is not None:
            row[column.name] = value.encode()
    return row


def _typed(column: Column, value: Any) -> Any:
    convert = _CONVERSIONS.get(column.type)
    return value if value is None or convert is None else convert(value)


_CONVERSIONS: Final[dict[ColumnType, Callable[[Any], Any]]] = {
    ColumnType.JSON: json.loads,
    ColumnType.INTEGER: int,  # sums and averages come as other numbers
    ColumnType.REAL: float,
    ColumnType.BOOLEAN: bool,
}
