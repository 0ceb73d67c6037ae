"""Reading an embedding endpoint's answer, believing nothing it says."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agenthub.core import json
from agenthub.core.errors import MalformedInput, ProviderFailure
from agenthub.rag.embedding.configuration import MAX_DIMENSION
from agenthub.rag.embedding.contract import Vectors


def read_vectors(body: bytes, count: int, dimension: int | None) -> Vectors:
    """The `count` vectors of an `/embeddings` answer in the order of the request, each made length one.

    `dimension` None takes whatever dimension all vectors share.

    Raises: ProviderFailure when the answer is not JSON of that form, a vector is missing, doubled or of another dimension,
    or has no direction (NaN, infinity, all zero).
    """
    rows = [_vector(item) for item in _in_order(body, count)]
    wanted = dimension or len(rows[0])
    if any(len(row) != wanted for row in rows) or not 0 < wanted <= MAX_DIMENSION:
        raise ProviderFailure(f"the embedding endpoint answered vectors of dimension {sorted({len(r) for r in rows})}, not {wanted}")
    return _normalized(np.stack(rows))


def _in_order(body: bytes, count: int) -> list[Any]:
    items = _items(body)
    if len(items) != count:
        raise ProviderFailure(f"the embedding endpoint answered {len(items)} vectors for {count} texts")
    places: list[Any] = [item.get("index") for item in items]
    if all(place is None for place in places):
        return [item.get("embedding") for item in items]
    if any(type(place) is not int for place in places) or sorted(places) != list(range(count)):
        raise ProviderFailure("the embedding endpoint numbered its vectors wrongly")
    return [item.get("embedding") for item in sorted(items, key=lambda item: int(item["index"]))]


def _items(body: bytes) -> list[dict[str, Any]]:
    try:
        value = json.loads(body)
    except MalformedInput as error:
        raise ProviderFailure("the embedding endpoint's answer is not JSON") from error
    items = value.get("data") if isinstance(value, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ProviderFailure("the embedding endpoint's answer has no list `data`")
    return items


def _vector(value: Any) -> NDArray[np.float64]:
    """From numbers or base64 of little-endian float32; in double, so that squares of large numbers stay finite."""
    try:
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float64)
        if isinstance(value, list) and all(type(number) in (float, int) for number in value):
            return np.array(value, dtype=np.float64)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise ProviderFailure("the embedding endpoint answered a vector that can't be read") from error
    raise ProviderFailure("the embedding endpoint answered a vector that is neither numbers nor base64")


def _normalized(rows: NDArray[np.float64]) -> Vectors:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not np.isfinite(rows).all() or not (largest > 0).all():
        raise ProviderFailure("the embedding endpoint answered a vector with NaN, infinity or only zeros")
    scaled = rows / largest
    vectors: Vectors = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
    return vectors
