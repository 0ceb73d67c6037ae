"""Named arrays in a file of the safetensors format: plain numbers behind a JSON header, nothing that is ever executed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from agenthub.core.errors import CorruptFile

Arrays = Mapping[str, NDArray[np.generic]]


def encode_arrays(arrays: Arrays) -> bytes:
    """The file's bytes; the same arrays give the same bytes."""
    return save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})


def decode_arrays(data: NDArray[np.uint8], expected: Mapping[str, type[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Exactly the expected arrays, one-dimensional and of the expected types.

    Raises: CorruptFile when the bytes are not such a file.
    """
    try:
        arrays: dict[str, NDArray[np.generic]] = load(data.tobytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptFile(f"not a safetensors file: {error}") from error
    if arrays.keys() != expected.keys():
        raise CorruptFile("a tensor file has other arrays than its format says")
    for name, kind in expected.items():
        if arrays[name].dtype != kind or arrays[name].ndim != 1:
            raise CorruptFile(f"the array {name} has another type or shape than its format says")
    return arrays
