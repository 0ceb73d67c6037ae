"""Named questions in BigQuery's SQL, with bound parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from agenthub.core.errors import InvalidInput
from agenthub.storage.bigquery.values import Parameter, array, scalar
from agenthub.storage.contract import Column, ColumnType, Question

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_]\w*)")
_LIST: Final = re.compile(r"\bIN\s+:([a-z_]\w*)", re.IGNORECASE)
_KINDS: Final[tuple[tuple[type, ColumnType], ...]] = (
    (bool, ColumnType.BOOLEAN),
    (int, ColumnType.INTEGER),
    (float, ColumnType.REAL),
    (str, ColumnType.TEXT),
    (bytes, ColumnType.BYTES),
    (datetime, ColumnType.TIMESTAMP),
)


def asked(question: Question, parameters: Mapping[str, Any], place: str = "bigquery") -> tuple[str, list[Parameter]]:
    """The question's statement for BigQuery and its parameters. `:name` becomes `@name`, and `IN :names` searches an array.

    `place` is `bigquery` for a deployment's rows, `warehouse` for what was exported.

    Raises: InvalidInput when the question has no statement for BigQuery or takes other parameters.
    """
    text = question.statements.get(place) or question.statements.get("sql")
    if text is None:
        raise InvalidInput(f"the question {question.name} has no statement for the {place}")
    if set(_PARAMETER.findall(text)) != set(parameters):
        raise InvalidInput(f"the question {question.name} takes other parameters")
    text = _LIST.sub(r"IN UNNEST(@\1)", text)
    return _PARAMETER.sub(r"@\1", text), [_parameter(name, value) for name, value in parameters.items()]


def _parameter(name: str, value: Any) -> ArrayQueryParameter | ScalarQueryParameter:
    if isinstance(value, list | tuple):
        kind = _kind(value[0]) if value else ColumnType.TEXT
        return array(name, Column(name, kind), value)
    return scalar(name, Column(name, _kind(value)), value)


def _kind(value: Any) -> ColumnType:
    for base, kind in _KINDS:
        if isinstance(value, base):
            return kind
    return ColumnType.TEXT
