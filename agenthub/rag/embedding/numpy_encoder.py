"""The encoder in plain numpy, at full precision: for machines where the ONNX model can't be made or run. Four times slower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LAYERS: Final = 6
HEADS: Final = 12
EPSILON: Final = np.float32(1e-12)
_HALF_ROOT: Final = np.float32(0.5**0.5)
# Abramowitz and Stegun 7.1.26: the error function to 1.5e-7, which is what float32 resolves.
_ERF: Final = tuple(np.float32(a) for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))
_ERF_P: Final = np.float32(0.3275911)

Array = NDArray[np.float32]


class NumpyEncoder:
    """Token ids of one text to its normalized vector."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights = weights
        self._positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]

    def encode(self, ids: Sequence[int]) -> Array:
        """The vector, float32 of length one. `ids` are at most 512."""
        hidden = self._weights["embeddings.word_embeddings.weight"][list(ids)] + self._positions[: len(ids)]
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        mean: Array = hidden.mean(axis=0)
        return mean / np.float32(np.linalg.norm(mean))

    def _layer(self, value: Array, key: str) -> Array:
        mixed = self._linear(self._attention(value, key + "attention.self."), key + "attention.output.dense")
        value = self._norm(value + mixed, key + "attention.output.LayerNorm")
        narrow = self._linear(_gelu(self._linear(value, key + "intermediate.dense")), key + "output.dense")
        return self._norm(value + narrow, key + "output.LayerNorm")

    def _attention(self, value: Array, key: str) -> Array:
        query, keys, values = (
            self._linear(value, key + part).reshape(len(value), HEADS, -1).transpose(1, 0, 2) for part in ("query", "key", "value")
        )
        scores = query @ keys.transpose(0, 2, 1) * np.float32(query.shape[-1] ** -0.5)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen: Array = (weights / weights.sum(axis=-1, keepdims=True)) @ values
        return seen.transpose(1, 0, 2).reshape(value.shape)

    def _linear(self, value: Array, key: str) -> Array:
        product: Array = value @ self._weights[key + ".weight"].T
        return product + self._weights[key + ".bias"]

    def _norm(self, value: Array, key: str) -> Array:
        centred = value - value.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + EPSILON)
        normed: Array = centred / spread * self._weights[key + ".weight"]
        return normed + self._weights[key + ".bias"]


def _gelu(value: Array) -> Array:
    return np.float32(0.5) * value * (np.float32(1) + _erf(value * _HALF_ROOT))


def _erf(value: Array) -> Array:
    size = np.abs(value)
    step = np.float32(1) / (np.float32(1) + _ERF_P * size)
    series = np.zeros_like(value)
    for factor in _ERF:
        series = (series + factor) * step
    result: Array = np.copysign(np.float32(1) - series * np.exp(-size * size), value)
    return result
