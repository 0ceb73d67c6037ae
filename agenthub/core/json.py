"""JSON in and out, with what AgentHub refuses: NaN, infinity, NUL characters and deep nesting."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any, Final

import orjson

from agenthub.core.errors import InvalidInput, MalformedInput

MAX_DEPTH: Final = 32


def dumps(value: Any) -> bytes:
    """UTF-8 JSON; datetimes as RFC 3339 with `Z`, dataclasses as objects."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def canonical(value: Any) -> bytes:
    """The one byte string of a value, keys sorted: what hashes are taken over."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS)


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def loads(data: bytes | str) -> Any:
    """Parse JSON that AgentHub itself wrote.

    Raises: MalformedInput when it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedInput(f"not valid JSON: {error}") from error


def loads_untrusted(data: bytes) -> Any:
    """Parse JSON from outside.

    Raises: MalformedInput when it is not UTF-8 JSON; InvalidInput, naming the path, for NUL characters, numbers that are
    not finite and nesting over 32 levels.
    """
    value = loads(data)
    _check(value, "", 0)
    return value


def _check(value: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"nested deeper than {MAX_DEPTH} levels", field=path or None)
    if isinstance(value, str) and "\x00" in value:
        raise InvalidInput("NUL characters are not accepted", field=path or None)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("numbers must be finite", field=path or None)
    for name, item, step in _members(value, path):
        _check(name, path, depth)
        _check(item, step, depth + 1)


def _members(value: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """The parts of an object or array: key, value and path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item, f"{path}.{key}" if path else key
    elif isinstance(value, list) and not _plain_numbers(value):
        for index, item in enumerate(value):
            yield "", item, f"{path}[{index}]"


def _plain_numbers(values: list[Any]) -> bool:
    """A vector: skip the walk, its consumer checks finiteness in numpy at once."""
    return len(values) > 32 and isinstance(values[0], float) and all(type(v) is float or type(v) is int for v in values)
