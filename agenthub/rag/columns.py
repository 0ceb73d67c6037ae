"""The metadata of a segment as columns of numbers, so that a filter is array work and reads no JSON.

Values of one field that differ in type live side by side: texts (as positions in one sorted table), whole numbers, other
numbers and truth values, each once as the value of a row ("plain") and once as an element of a row's list ("item").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.chunks import Chunk, IdIndex
from agenthub.rag.moments import NO_MOMENT, moment
from agenthub.rag.strings import StringTable
from agenthub.rag.tensors import Expected, decode_arrays, encode_arrays

Kind = Literal["text", "whole", "real", "truth"]
Shape = Literal["plain", "item"]
KINDS: Final[dict[Kind, type[np.generic]]] = {"text": np.uint32, "whole": np.int64, "real": np.float64, "truth": np.uint8}
SHAPES: Final[tuple[Shape, ...]] = ("plain", "item")
PRESENT: Final = "present"
DOCUMENT_FIELD: Final = "document_id"
_NAMES: Final = (*(f"{shape}.{kind}" for shape in SHAPES for kind in KINDS), PRESENT)
_INT64: Final = range(-(2**63), 2**63)
_ARRAYS: Final[Expected] = {
    "chunk_ids.hashes": (np.uint64,),
    "chunk_ids.rows": (np.uint32,),
    "document_ids.hashes": (np.uint64,),
    "document_ids.rows": (np.uint32,),
    "fields.data": (np.uint8,),
    "fields.offsets": (np.int64,),
    "texts.data": (np.uint8,),
    "texts.offsets": (np.int64,),
    "texts.moments": (np.int64,),
    **{f"{name}.bounds": (np.int64,) for name in _NAMES},
    **{f"{name}.rows": (np.uint32,) for name in _NAMES},
    **{f"{shape}.{kind}.values": (KINDS[kind],) for shape in SHAPES for kind in KINDS},
}


@dataclass(frozen=True, slots=True)
class Column:
    """The values of all fields that have one kind and shape; field `f` has those from `bounds[f]` to `bounds[f + 1]`."""

    bounds: NDArray[np.int64]
    rows: NDArray[np.uint32]
    values: NDArray[Any]

    def of_field(self, field: int) -> tuple[NDArray[np.uint32], NDArray[Any]]:
        """The rows and values of one field."""
        lower, upper = self.bounds[field], self.bounds[field + 1]
        return self.rows[lower:upper], self.values[lower:upper]

    def sound(self, field_count: int, row_count: int) -> bool:
        """Whether the arrays fit each other and the segment."""
        bounds = self.bounds
        return (
            len(bounds) == field_count + 1
            and bounds[0] == 0
            and int(bounds[-1]) == len(self.rows) == len(self.values)
            and bool(np.all(bounds[1:] >= bounds[:-1]))
            and bool(np.all(self.rows < row_count))
        )


@dataclass(frozen=True, slots=True)
class Columns:
    """Everything about a segment's rows that is asked without reading them: ids and the values of metadata fields."""

    count: int
    chunk_ids: IdIndex
    document_ids: IdIndex
    fields: StringTable
    texts: StringTable
    moments: NDArray[np.int64]
    values: Mapping[str, Column]

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> Columns:
        """The columns of these rows."""
        return _Gathering(chunks).columns()

    @classmethod
    def decode(cls, data: NDArray[np.uint8], count: int) -> Columns:
        """The columns in a filter file of a segment with `count` rows.

        Raises: CorruptFile when its arrays don't fit each other.
        """
        arrays = cast("dict[str, NDArray[Any]]", decode_arrays(data, _ARRAYS))
        columns = cls(
            count,
            IdIndex(arrays["chunk_ids.hashes"], arrays["chunk_ids.rows"]),
            IdIndex(arrays["document_ids.hashes"], arrays["document_ids.rows"]),
            StringTable(arrays["fields.data"], arrays["fields.offsets"]),
            StringTable(arrays["texts.data"], arrays["texts.offsets"]),
            arrays["texts.moments"],
            {name: _column(arrays, name) for name in _NAMES},
        )
        if not columns._sound():
            raise CorruptFile("a filter file's arrays do not fit each other")
        return columns

    def encode(self) -> bytes:
        """The bytes of the filter file."""
        return encode_arrays(self._arrays())

    @property
    def size_bytes(self) -> int:
        """Its length in memory, whether that is its own or a mapped file's."""
        return sum(array.nbytes for array in self._arrays().values())

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            "chunk_ids.hashes": self.chunk_ids.hashes,
            "chunk_ids.rows": self.chunk_ids.rows,
            "document_ids.hashes": self.document_ids.hashes,
            "document_ids.rows": self.document_ids.rows,
            "fields.data": self.fields.data,
            "fields.offsets": self.fields.offsets,
            "texts.data": self.texts.data,
            "texts.offsets": self.texts.offsets,
            "texts.moments": self.moments,
        }
        for name, column in self.values.items():
            arrays |= {f"{name}.bounds": column.bounds, f"{name}.rows": column.rows}
            if name != PRESENT:
                arrays[f"{name}.values"] = column.values
        return arrays

    def _sound(self) -> bool:
        tables = self.fields.sound() and self.texts.sound() and len(self.moments) == len(self.texts)
        ids = self.chunk_ids.sound(self.count) and self.document_ids.sound(self.count) and len(self.chunk_ids.rows) == self.count
        columns = all(column.sound(len(self.fields), self.count) for column in self.values.values())
        return tables and ids and columns and all(bool(np.all(self.values[f"{s}.text"].values < len(self.texts))) for s in SHAPES)


def _column(arrays: Mapping[str, NDArray[Any]], name: str) -> Column:
    rows = arrays[f"{name}.rows"]
    return Column(arrays[f"{name}.bounds"], rows, rows if name == PRESENT else arrays[f"{name}.values"])


class _Gathering:
    """Reads rows once and sorts their values into columns."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._found: dict[str, list[tuple[int, int, Any]]] = {name: [] for name in _NAMES}  # field number, row, value
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []
        self._documents: list[str | None] = []
        for row, chunk in enumerate(chunks):
            self._ids.append(chunk.id)
            self._documents.append(chunk.document_id)
            self._take(row, chunk)

    def _take(self, row: int, chunk: Chunk) -> None:
        own = {} if chunk.metadata.get(DOCUMENT_FIELD) is not None else {DOCUMENT_FIELD: chunk.document_id}
        seen: set[str] = set()
        for name, value in chain(_flattened(chunk.metadata, ""), own.items()):
            if value is None:
                continue
            number = self._numbers.setdefault(name, len(self._numbers))
            if name not in seen:
                seen.add(name)
                self._found[PRESENT].append((number, row, row))
            shape, values = ("item", value) if isinstance(value, list) else ("plain", [value])
            for item in values:
                if (kind := kind_of(item)) is not None:
                    self._found[f"{shape}.{kind}"].append((number, row, item))

    def columns(self) -> Columns:
        """All that was gathered."""
        fields = StringTable.of(self._numbers)
        ranks = np.empty(len(fields), dtype=np.int64)
        for name, number in self._numbers.items():
            ranks[number] = fields.find(name)
        texts = sorted({value for shape in SHAPES for _, _, value in self._found[f"{shape}.text"]})
        codes = {text: code for code, text in enumerate(texts)}
        moments = [NO_MOMENT if (found := moment(text)) is None else found for text in texts]
        values = {name: self._sorted(name, ranks, codes) for name in _NAMES}
        ids, documents = IdIndex.of(self._ids), IdIndex.of(self._documents)
        return Columns(len(self._ids), ids, documents, fields, StringTable.of(texts), np.array(moments, dtype=np.int64), values)

    def _sorted(self, name: str, ranks: NDArray[np.int64], codes: Mapping[str, int]) -> Column:
        found = self._found[name]
        fields = ranks[np.array([field for field, _, _ in found], dtype=np.int64)]
        order = np.argsort(fields, kind="stable")
        rows = np.array([row for _, row, _ in found], dtype=np.uint32)[order]
        bounds = np.searchsorted(fields[order], np.arange(len(ranks) + 1)).astype(np.int64)
        if name == PRESENT:
            return Column(bounds, rows, rows)
        kind = cast("Kind", name.split(".")[1])
        values = [codes[value] if kind == "text" else value for _, _, value in found]
        return Column(bounds, rows, np.array(values, dtype=KINDS[kind])[order])


def kind_of(value: Any) -> Kind | None:
    """Which column takes this value; None for what can't be compared (objects, lists in lists, null, not finite)."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int):
        return "whole" if value in _INT64 else "real"
    if isinstance(value, float):
        return "real" if math.isfinite(value) else None
    return "text" if isinstance(value, str) else None


def _flattened(metadata: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every field with its dotted name; an object is a field itself, and so are its own fields."""
    for name, value in metadata.items():
        yield prefix + name, value
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
