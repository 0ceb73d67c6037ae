"""Named arrays in a file of the safetensors format: plain numbers behind a JSON header, nothing that is ever executed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors.numpy import save

from agenthub.core.errors import CorruptFile

Arrays = Mapping[str, NDArray[np.generic]]
Expected = Mapping[str, tuple[type[np.generic], ...]]
"""The types an array may have, by its name."""

_LENGTH: Final = struct.Struct("<Q")
_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
}
_Malformed = (struct.error, orjson.JSONDecodeError, KeyError, ValueError, TypeError, AttributeError)


def encode_arrays(arrays: Arrays) -> bytes:
    """The file's bytes; the same arrays give the same bytes."""
    return save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})


def decode_arrays(data: NDArray[np.uint8], expected: Expected, optional: Expected | None = None) -> dict[str, NDArray[np.generic]]:
    """The expected arrays, one-dimensional and of the expected types, with all of the optional ones or none of them.

    They are views of the data, which must not change: pages that are mapped stay shared.
    Raises: CorruptFile when the bytes are not such a file.
    """
    try:
        arrays = _views(data)
    except _Malformed as error:
        raise CorruptFile(f"not a safetensors file: {error}") from error
    wanted = dict(expected)
    if optional and arrays.keys() != wanted.keys():
        wanted |= optional
    if arrays.keys() != wanted.keys():
        raise CorruptFile("a tensor file has other arrays than its format says")
    for name, kinds in wanted.items():
        if arrays[name].dtype not in kinds:
            raise CorruptFile(f"the array {name} has another type than its format says")
    return arrays


def _views(data: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Every array of the file. Raises: one of `_Malformed`."""
    start = _LENGTH.size + _LENGTH.unpack(data[: _LENGTH.size].tobytes())[0]
    if start > len(data):
        raise ValueError("the header is longer than the file")
    header: dict[str, Any] = orjson.loads(data[_LENGTH.size : start].tobytes())
    header.pop("__metadata__", None)
    arrays: dict[str, NDArray[np.generic]] = {}
    end = 0
    for name, facts in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (count,), (first, last), kind = facts["shape"], facts["data_offsets"], np.dtype(_TYPES[facts["dtype"]])
        if first != end or last - first != count * kind.itemsize or start + last > len(data):
            raise ValueError(f"the bytes of {name} are not where they should be")
        arrays[name], end = _view(data[start + first : start + last], kind), last
    if start + end != len(data):
        raise ValueError("there are bytes that belong to no array")
    return arrays


def _view(data: NDArray[np.uint8], kind: np.dtype[Any]) -> NDArray[np.generic]:
    """The bytes as numbers; copied only where a file lays them out so that the processor could not read them in place."""
    aligned = data.ctypes.data % kind.itemsize == 0
    return (data if aligned else data.copy()).view(kind)
