"""The filter tree of a search: typed nodes made from JSON, with every mistake named by its path.

A leaf compares one field of a chunk's metadata. Fields of nested objects are named with dots (`author.name`);
`document_id` names the chunk's document where the metadata has no such field. Rules:

* `eq`, `in`, `gt`, `gte`, `lt`, `lte` look at plain values (text, number, boolean); a list equals no plain value.
  Types never mix: "1" is not 1, true is not 1; 1 equals 1.0.
* Order is by number, or by code points for texts. If the value asked for is an RFC 3339 date or time, texts are ordered as
  moments instead: a date is its midnight, a time without offset is UTC, and texts that are no moment do not match.
* `contains` finds a part of a text (case matters), or an element of a list.
* `exists` (value true, the default, or false) is whether the field has a value; null counts as none.
* Without a value, only `ne`, `nin`, and `exists` with false are true. `ne` and `nin` are exactly "not eq" and "not in".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from agenthub.core.errors import InvalidInput

MAX_DEPTH: Final = 8
MAX_NODES: Final = 100
MAX_VALUES: Final = 1000
MAX_FIELD_LENGTH: Final = 256
MAX_TEXT_LENGTH: Final = 4096

Value = str | int | float | bool
Op = Literal["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists", "contains"]
ORDERINGS: Final = frozenset({"gt", "gte", "lt", "lte"})
_OPS: Final = frozenset({"eq", "ne", "in", "nin", "exists", "contains"}) | ORDERINGS


@dataclass(frozen=True, slots=True)
class AndNode:
    """True where all are; with none, everywhere."""

    nodes: tuple[FilterNode, ...]


@dataclass(frozen=True, slots=True)
class OrNode:
    """True where any is; with none, nowhere."""

    nodes: tuple[FilterNode, ...]


@dataclass(frozen=True, slots=True)
class NotNode:
    """True where the other isn't."""

    node: FilterNode


@dataclass(frozen=True, slots=True)
class FieldNode:
    """A comparison of one field. `values` holds one value, or those of `in` and `nin`."""

    field: str
    op: Op
    values: tuple[Value, ...]


FilterNode = AndNode | OrNode | NotNode | FieldNode


def parse_filter(tree: Any, field: str = "filter") -> FilterNode:
    """The typed tree of a filter's JSON.

    Raises: InvalidInput, `field` with the path of the mistake, such as `filter.and[1].op`.
    """
    return _Parser().node(tree, field, 1)


class _Parser:
    """One reading of one tree; counts its nodes."""

    def __init__(self) -> None:
        self._count = 0

    def node(self, tree: Any, path: str, depth: int) -> FilterNode:
        self._count += 1
        if self._count > MAX_NODES:
            raise InvalidInput(f"a filter has at most {MAX_NODES} nodes", field=path)
        if depth > MAX_DEPTH:
            raise InvalidInput(f"a filter is at most {MAX_DEPTH} levels deep", field=path)
        if not isinstance(tree, Mapping):
            raise InvalidInput("a filter node is an object", field=path)
        if "field" in tree or "op" in tree:
            return _leaf(tree, path)
        if len(tree) != 1 or next(iter(tree)) not in ("and", "or", "not"):
            raise InvalidInput('a filter node is one of {"and": []}, {"or": []}, {"not": {}} and {"field", "op", "value"}', field=path)
        return self._group(tree, path, depth)

    def _group(self, tree: Mapping[str, Any], path: str, depth: int) -> FilterNode:
        name, below = next(iter(tree.items()))
        if name == "not":
            return NotNode(self.node(below, f"{path}.not", depth + 1))
        if not isinstance(below, list):
            raise InvalidInput("this is a list of filter nodes", field=f"{path}.{name}")
        nodes = tuple(self.node(item, f"{path}.{name}[{index}]", depth + 1) for index, item in enumerate(below))
        return AndNode(nodes) if name == "and" else OrNode(nodes)


def _leaf(tree: Mapping[str, Any], path: str) -> FieldNode:
    for key in tree:
        if key not in ("field", "op", "value"):
            raise InvalidInput("not a part of a comparison", field=f"{path}.{key}")
    name, op = tree.get("field"), tree.get("op")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_FIELD_LENGTH:
        raise InvalidInput(f"the name of a field has 1 to {MAX_FIELD_LENGTH} characters", field=f"{path}.field")
    if not isinstance(op, str) or op not in _OPS:
        raise InvalidInput(f"unknown operator; one of {', '.join(sorted(_OPS))}", field=f"{path}.op")
    if "value" not in tree and op != "exists":
        raise InvalidInput("a value is missing", field=f"{path}.value")
    values = _VALUES.get(op, _one)(tree.get("value", True), f"{path}.value")
    return FieldNode(name, cast("Op", op), values)


def _one(value: Any, path: str) -> tuple[Value, ...]:
    """A single text, number or boolean."""
    if not isinstance(value, str | int | float):
        raise InvalidInput("a value is a text, a number or a boolean", field=path)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("numbers must be finite", field=path)
    if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
        raise InvalidInput(f"texts have at most {MAX_TEXT_LENGTH} characters here", field=path)
    return (value,)


def _ordered(value: Any, path: str) -> tuple[Value, ...]:
    if isinstance(value, bool):
        raise InvalidInput("booleans have no order", field=path)
    return _one(value, path)


def _boolean(value: Any, path: str) -> tuple[Value, ...]:
    if not isinstance(value, bool):
        raise InvalidInput("true or false", field=path)
    return (value,)


def _list(value: Any, path: str) -> tuple[Value, ...]:
    if not isinstance(value, list):
        raise InvalidInput("this operator takes a list of values", field=path)
    if len(value) > MAX_VALUES:
        raise InvalidInput(f"at most {MAX_VALUES} values", field=path)
    return tuple(item for index, one in enumerate(value) for item in _one(one, f"{path}[{index}]"))


_VALUES: Final[dict[str, Callable[[Any, str], tuple[Value, ...]]]] = {
    "in": _list,
    "nin": _list,
    "exists": _boolean,
    **dict.fromkeys(ORDERINGS, _ordered),
}
