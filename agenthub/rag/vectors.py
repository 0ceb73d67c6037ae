"""Vectors as they are stored and compared: float32, length 1, so that an inner product is a cosine."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, InvalidInput

MAX_DIMENSION: Final = 8192
_BLOCK_ROWS: Final = 4096
_UNIT_TOLERANCE: Final = 1e-5
Vectors = NDArray[np.float32]


def unit_vectors(vectors: Vectors, field: str = "items[{}].vector") -> Vectors:
    """The rows, contiguous and scaled to length 1; those that have it within 1e-5 keep their very bytes.

    Where all have it nothing is copied: a merge of a large segment holds its vectors once. Do not write to the result.

    Raises: InvalidInput, `field` with the row's number, for rows with NaN, infinity or only zeros, and another shape.
    """
    if vectors.ndim != 2 or not 1 <= vectors.shape[1] <= MAX_DIMENSION:
        raise InvalidInput(f"vectors must have 1 to {MAX_DIMENSION} numbers", field=field.format(0))
    units: Vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    for start in range(0, len(units), _BLOCK_ROWS):
        block = units[start : start + _BLOCK_ROWS]
        if (scaled := _scaled(block, start, field)) is not block:
            if np.may_share_memory(units, vectors):
                units = units.copy()
            units[start : start + _BLOCK_ROWS] = scaled
    return units


def unit_vector(vector: Vectors, field: str) -> Vectors:
    """One vector as `unit_vectors` gives it, shape (1, dimension), for a fraction of the cost.

    Raises: InvalidInput, naming `field`, when it has NaN, infinity or only zeros.
    """
    wide = vector.astype(np.float64)
    length = math.sqrt(float(wide @ wide))
    if not 0 < length < math.inf:
        return unit_vectors(vector[np.newaxis], field)  # which says what is wrong
    unit: Vectors = vector if abs(length - 1) <= _UNIT_TOLERANCE else (wide / length).astype(np.float32)
    return np.ascontiguousarray(unit, dtype=np.float32)[np.newaxis]


def _scaled(block: Vectors, start: int, field: str) -> Vectors:
    wide = block.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    if not 0 < lengths.min() <= lengths.max() < np.inf:  # false for NaN too
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        row = int(bad[0])
        reason = "has only zeros" if lengths[row] == 0 else "has a number that is not finite"
        raise InvalidInput(f"the vector {reason}", field=field.format(start + row))
    off = np.abs(lengths - 1) > _UNIT_TOLERANCE
    if not off.any():
        return block
    scaled = block.copy()
    scaled[off] = wide[off] / lengths[off, None]
    return scaled


def decode_vectors(data: NDArray[np.uint8], count: int, dimension: int) -> Vectors:
    """The rows of a vector file.

    Raises: CorruptFile when it has another size.
    """
    if data.nbytes != count * dimension * 4:
        raise CorruptFile(f"a vector file has {data.nbytes} bytes instead of {count * dimension * 4}")
    return data.view("<f4").reshape(count, dimension)
