"""Which rows of a segment a filter selects: one bitmap a node."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.columns import PRESENT, Columns, Kind, Shape, kind_of
from agenthub.rag.filters import ORDERINGS, AndNode, FieldNode, FilterNode, NotNode, OrNode, Value
from agenthub.rag.moments import NO_MOMENT, moment

Bitmap = NDArray[np.bool_]
_COMPARE: Final[dict[str, Callable[[Any, Any], Bitmap]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def selected_rows(node: FilterNode, columns: Columns) -> Bitmap:
    """Which rows the filter is true for."""
    match node:
        case AndNode(nodes):
            return reduce(np.logical_and, (selected_rows(one, columns) for one in nodes), np.ones(columns.count, dtype=np.bool_))
        case OrNode(nodes):
            return reduce(np.logical_or, (selected_rows(one, columns) for one in nodes), np.zeros(columns.count, dtype=np.bool_))
        case NotNode(below):
            return ~selected_rows(below, columns)
        case FieldNode():
            return _Comparison(node, columns).bitmap()


class _Comparison:
    """One leaf over one segment."""

    def __init__(self, node: FieldNode, columns: Columns) -> None:
        self._node = node
        self._columns = columns
        self._field = columns.fields.find(node.field)

    def bitmap(self) -> Bitmap:
        bitmap = np.zeros(self._columns.count, dtype=np.bool_)
        if self._field >= 0:
            for rows in self._matches():
                bitmap[rows] = True
        negative = self._node.op in ("ne", "nin") or (self._node.op == "exists" and not self._node.values[0])
        return ~bitmap if negative else bitmap

    def _matches(self) -> list[NDArray[np.uint32]]:
        """The rows the comparison holds for, before it is turned around for `ne`, `nin` and `exists` with false."""
        op, values = self._node.op, self._node.values
        if op == "exists":
            return [self._columns.values[PRESENT].of_field(self._field)[0]]
        if op == "contains":
            return [*self._equal("item", values), *self._containing(values[0])]
        if op in ORDERINGS:
            return self._ordered(op, values[0])
        return self._equal("plain", values)

    def _of(self, shape: Shape, kind: Kind) -> tuple[NDArray[np.uint32], NDArray[Any]]:
        return self._columns.values[f"{shape}.{kind}"].of_field(self._field)

    def _equal(self, shape: Shape, values: Sequence[Value]) -> list[NDArray[np.uint32]]:
        codes = [code for value in values if isinstance(value, str) and (code := self._columns.texts.find(value)) >= 0]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        whole = [int(value) for value in numbers if value == math.floor(value) and kind_of(int(value)) == "whole"]
        real = [float(value) for value in numbers if float(value) == value]
        truth = [int(value) for value in values if isinstance(value, bool)]
        wanted: dict[Kind, Sequence[int | float]] = {"text": codes, "whole": whole, "real": real, "truth": truth}
        return [self._among(shape, kind, found) for kind, found in wanted.items() if found]

    def _among(self, shape: Shape, kind: Kind, wanted: Sequence[int | float]) -> NDArray[np.uint32]:
        rows, values = self._of(shape, kind)
        if len(wanted) == 1:
            matching: Bitmap = values == values.dtype.type(wanted[0])
            return rows[matching]
        return rows[np.isin(values, np.array(wanted, dtype=values.dtype))]

    def _containing(self, value: Value) -> list[NDArray[np.uint32]]:
        if not isinstance(value, str):
            return []
        rows, codes = self._of("plain", "text")
        return [rows[np.isin(codes, self._columns.texts.containing(value))]]

    def _ordered(self, op: str, value: Value) -> list[NDArray[np.uint32]]:
        if isinstance(value, str):
            return [self._ordered_texts(op, value)]
        # A whole number compares to 2.5 as to the whole number below (gt, lte) or above it (gte, lt): no rounding of big ones.
        limit = math.floor(value) if op in ("gt", "lte") else math.ceil(value)
        rows, whole = self._of("plain", "whole")
        real_rows, real = self._of("plain", "real")
        return [rows[_COMPARE[op](whole, limit)], real_rows[_COMPARE[op](real, float(value))]]

    def _ordered_texts(self, op: str, value: str) -> NDArray[np.uint32]:
        rows, codes = self._of("plain", "text")
        if (asked := moment(value)) is not None:
            moments = self._columns.moments[codes]
            matching: Bitmap = _COMPARE[op](moments, asked) & (moments != NO_MOMENT)
            return rows[matching]
        texts = self._columns.texts
        below = codes < (texts.upper(value) if op in ("gt", "lte") else texts.lower(value))
        return rows[below if op in ("lt", "lte") else ~below]
