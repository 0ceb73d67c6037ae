"""Named questions: a text per dialect with bound parameters, typed by its result columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from agenthub.core.errors import InvalidInput
from agenthub.storage.contract import ColumnType, Question, Row
from agenthub.storage.sql.tables import Instant, column_type


def bound(question: Question, backend: str, parameters: Mapping[str, Any]) -> sa.TextualSelect:
    """The question's statement for this backend with its parameters bound.

    Raises: InvalidInput when the question has no statement for the backend or lacks a parameter.
    """
    text = question.statements.get(backend) or question.statements.get("sql")
    if text is None:
        raise InvalidInput(f"the question {question.name} has no statement for {backend}")
    try:
        statement = sa.text(text).bindparams(*(_parameter(name, value) for name, value in parameters.items()))
    except sa.exc.ArgumentError as error:
        raise InvalidInput(f"the question {question.name} takes other parameters") from error
    return statement.columns(**{column.name: column_type(column.type) for column in question.columns})


def _parameter(name: str, value: Any) -> sa.BindParameter[Any]:
    if isinstance(value, list | tuple):
        return sa.bindparam(name, list(value), expanding=True)
    if isinstance(value, datetime):
        return sa.bindparam(name, value, Instant())
    return sa.bindparam(name, value)


def answers(question: Question, rows: Sequence[Row]) -> list[Row]:
    """The rows with each value in its column's Python type: sums and averages come as Decimal from PostgreSQL."""
    return [{column.name: _typed(column.type, row[column.name]) for column in question.columns} for row in rows]


def _typed(kind: ColumnType, value: Any) -> Any:
    convert = _CONVERSIONS.get(kind)
    return value if value is None or convert is None else convert(value)


_CONVERSIONS: Final[dict[ColumnType, Callable[[Any], Any]]] = {
    ColumnType.INTEGER: int,
    ColumnType.REAL: float,
    ColumnType.BOOLEAN: bool,
}
