"""What is stored and asked: clustered unit vectors, texts of 500 characters, metadata, and the exact answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DIMENSION: Final = 384
TEXT_CHARACTERS: Final = 500
CATEGORIES: Final = 10
"""A filter on one of them leaves a tenth."""

WANTED_CATEGORY: Final = 3
QUERIES: Final = 100
ITEMS_PER_CLUSTER: Final = 1000
NOISE: Final = 0.7
"""The length of what sets a vector apart from its cluster's centre, which has length 1."""

_BLOCK: Final = 20_000
_WORDS: Final = 4_000
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Item:
    """One item; all but the vector."""

    id: str
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """Items, queries and the ten nearest items of each query, unfiltered and within the wanted category, as item numbers."""

    vectors: Vectors
    categories: NDArray[np.int64]
    queries: Vectors
    nearest: NDArray[np.int64]
    nearest_filtered: NDArray[np.int64]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.vectors)

    def item(self, number: int) -> Item:
        """The item of that number, always the same."""
        chosen = np.random.default_rng(number).integers(0, len(self.words), TEXT_CHARACTERS // 4)
        text = " ".join(self.words[i] for i in chosen)[:TEXT_CHARACTERS].ljust(TEXT_CHARACTERS, ".")
        metadata = {"category": int(self.categories[number]), "source": f"file-{number % 997}.txt", "year": 2000 + number % 25}
        return Item(item_id(number), text, metadata)

    def batches(self, size: int = 1000) -> Iterator[tuple[list[Item], Vectors]]:
        """All items with their vectors, so many at a time."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield [self.item(number) for number in range(start, stop)], self.vectors[start:stop]


def item_id(number: int) -> str:
    """The id of an item."""
    return f"item-{number:08d}"


def item_number(key: str) -> int:
    """The number of an item's id."""
    return int(key.removeprefix("item-"))


def make_workload(count: int, seed: int = 20_261_123) -> Workload:
    """A workload of so many items; the same for the same seed."""
    random = np.random.default_rng(seed)
    centres = _units(random.standard_normal((max(20, count // ITEMS_PER_CLUSTER), DIMENSION), dtype=np.float32))
    vectors = np.concatenate([_around(centres, min(_BLOCK, count - start), random) for start in range(0, count, _BLOCK)])
    queries = _around(centres, QUERIES, random)
    categories = random.integers(0, CATEGORIES, count)
    wanted = np.flatnonzero(categories == WANTED_CATEGORY)
    words = tuple("".join(chr(97 + c) for c in random.integers(0, 26, random.integers(2, 10))) for _ in range(_WORDS))
    return Workload(vectors, categories, queries, _exact(vectors, queries), wanted[_exact(vectors[wanted], queries)], words)


def recall(found: list[list[int]], nearest: NDArray[np.int64]) -> float:
    """The share of the true ten nearest that were found, over all queries; 0..1."""
    hits = sum(len(set(one) & set(true.tolist())) for one, true in zip(found, nearest, strict=True))
    return hits / nearest.size


def _around(centres: Vectors, count: int, random: np.random.Generator) -> Vectors:
    noise = random.standard_normal((count, DIMENSION), dtype=np.float32) * np.float32(NOISE / np.sqrt(DIMENSION))
    return _units(centres[random.integers(0, len(centres), count)] + noise)


def _units(vectors: Vectors) -> Vectors:
    units: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def _exact(vectors: Vectors, queries: Vectors, count: int = 10) -> NDArray[np.int64]:
    """The numbers of the nearest rows of each query, in blocks so that memory stays small."""
    scores = np.full((len(queries), 0), 0, dtype=np.float32)
    numbers = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        block = queries @ vectors[start : start + _BLOCK].T
        scores = np.concatenate([scores, block], axis=1)
        numbers = np.concatenate([numbers, np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores, numbers = np.take_along_axis(scores, order, axis=1), np.take_along_axis(numbers, order, axis=1)
    return numbers
