"""The index of a segment's vectors, of whichever kind: made when the segment is written, opened when it is searched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.choosing import Chosen
from agenthub.rag.faiss_codec import build_flat, choose_index
from agenthub.rag.faiss_codec import open_index as open_flat
from agenthub.rag.inverted import Measured, build_inverted, open_inverted
from agenthub.rag.vectors import Vectors

__all__ = ["MadeIndex", "Measured", "VectorIndex", "check_index", "make_index", "open_index"]


class VectorIndex(Protocol):
    """An opened index over the rows of a segment."""

    @property
    def size_bytes(self) -> int:
        """Memory used, shared or not."""

    def agrees_with(self, vectors: Vectors) -> bool:
        """Whether it was made of these vectors."""

    def nearest(
        self, queries: Vectors, count: int, chosen: Chosen | None, brute_force_fraction: float
    ) -> tuple[Vectors, NDArray[np.int64]]:
        """Cosines and rows of each query's best `count` among the chosen rows (None: all); the row -1 stands for none.

        There are fewer than `count` only where fewer rows are chosen.
        """


@dataclass(frozen=True, slots=True)
class MadeIndex:
    """An index as the bytes of its file, and what the segment's header has to say of it."""

    kind: str
    data: memoryview
    facts: Measured | None


def make_index(vectors: Vectors, kind: str | None = None) -> MadeIndex:
    """The index of these unit vectors, of the kind that suits their number if not told."""
    if (kind or choose_index(len(vectors))) == "flat":
        return MadeIndex("flat", build_flat(vectors), None)
    data, facts = build_inverted(vectors)
    return MadeIndex("ivf", data, facts)


def open_index(
    data: NDArray[np.uint8], kind: str, facts: Measured | None, shape: tuple[int, int], vectors: Callable[[], Vectors]
) -> VectorIndex:
    """The index in these bytes, of a segment with vectors of this shape, which are asked for only if the kind needs them.

    Raises: CorruptFile when it is of another kind or size than the segment says; what `vectors` raises.
    """
    if kind == "flat":
        return open_flat(data, kind, *shape)
    if kind == "ivf" and facts is not None:
        return open_inverted(data, vectors(), facts)
    raise CorruptFile(f"an index file has the unknown kind {kind!r}")


def check_index(data: NDArray[np.uint8], kind: str, facts: Measured | None, shape: tuple[int, int], vectors: Vectors | None) -> None:
    """Check an index file against the segment's header, and against its vectors where they are whole.

    Raises: CorruptFile when it is not an index of these.
    """
    if vectors is not None and not open_index(data, kind, facts, shape, lambda: vectors).agrees_with(vectors):
        raise CorruptFile("it has other vectors than vectors.f32")
    if vectors is None:
        open_index(data, kind, facts, shape, lambda: np.zeros(shape, dtype=np.float32))
