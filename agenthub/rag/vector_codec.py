"""Vectors from outside: numbers or base64, checked before anything else sees them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import InvalidInput, MalformedInput


def decode_vector(value: str | Sequence[float], dimension: int, field: str) -> NDArray[float32]:
    """A vector of finite float32, shape (dimension,), from numbers or base64 of little-endian float32.

    Raises: MalformedInput when it isn't base64; InvalidInput when it has the wrong length, is not finite or all zero.
    """
    if isinstance(value, str):
        try:
            vector = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
        except (binascii.Error, ValueError) as error:
            raise MalformedInput("not base64 of little-endian float32", field=field) from error
    else:
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite and is refused below
            vector = np.asarray(value, dtype=np.float64).astype(np.float32)
    if vector.shape != (dimension,):
        raise InvalidInput(f"should have {dimension} numbers, has {vector.size}", field=field)
    square = float(vector @ vector)
    if not 0 < square < np.inf and (not np.isfinite(vector).all() or not vector.any()):  # the square may leave float32's range
        raise InvalidInput("should be finite and not all zero", field=field)
    return vector


def encode_vector(vector: NDArray[float32]) -> str:
    """Base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
