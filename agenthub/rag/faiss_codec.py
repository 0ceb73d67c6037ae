"""FAISS indexes to bytes and back: the only module that knows FAISS.

FAISS trusts what it reads, so an index is opened only after its hash was checked, its kind is one we make, and the counts
in its header are the segment's. Indexes are never changed once made, and are searched by one thread at a time each caller.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.vectors import Vectors

_native: Final[Any] = faiss  # the bindings carry wrong types
IndexKind = Literal["flat"]
_FLAT_TAG: Final = b"IxFI"  # an exact index of inner products
_HEADER: Final = struct.Struct("<4siq")
_FLAT_OVERHEAD_BYTES: Final = 45


# Up to so many vectors, this kind: exact as long as that is quick enough. Other kinds join here when measured.
_KINDS: Final[tuple[tuple[int, IndexKind], ...]] = ((2**31, "flat"),)


def choose_index(count: int) -> IndexKind:
    """The kind of index a segment of `count` vectors gets."""
    return next(kind for limit, kind in _KINDS if count <= limit)


def build_index(vectors: Vectors, kind: IndexKind) -> memoryview:
    """A searchable index of these unit vectors, as the bytes of its file."""
    _one_thread.set()
    index = _BUILDERS[kind](vectors)
    data: NDArray[np.uint8] = _native.serialize_index(index)
    return data.data


def _flat(vectors: Vectors) -> Any:
    """An exact index: the vectors themselves."""
    index = _native.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


_BUILDERS: Final[dict[IndexKind, Callable[[Vectors], Any]]] = {"flat": _flat}


def open_index(data: NDArray[np.uint8], kind: str, count: int, dimension: int) -> VectorIndex:
    """The index in these bytes, which are used in place and must not change.

    Raises: CorruptFile when it is of another kind or size than the segment says.
    """
    _one_thread.set()
    if kind != "flat" or data.nbytes != _FLAT_OVERHEAD_BYTES + count * dimension * 4:
        raise CorruptFile("an index file has an unknown kind or a wrong size")
    if _HEADER.unpack(data[: _HEADER.size].tobytes()) != (_FLAT_TAG, dimension, count):
        raise CorruptFile("an index file's header does not fit its segment")
    try:
        index = _native.read_index(_native.ZeroCopyIOReader(_native.swig_ptr(data), data.nbytes))
    except RuntimeError as error:
        raise CorruptFile("an index file can't be read") from error
    if type(index) is not _native.IndexFlatIP or _facts(index) != (
        count,
        dimension,
        count * dimension * 4,
        _native.METRIC_INNER_PRODUCT,
        True,
    ):
        raise CorruptFile("an index file holds something else than its header says")
    return VectorIndex(index, data, data[_FLAT_OVERHEAD_BYTES:].view("<f4").reshape(count, dimension))


def _facts(index: Any) -> tuple[int, int, int, int, bool]:
    return index.ntotal, index.d, index.codes.size(), index.metric_type, index.is_trained


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An opened index. `vectors` are its rows, not a copy; `data` is what both are made of."""

    index: Any
    data: NDArray[np.uint8]
    vectors: Vectors

    def search_rows(self, queries: Vectors, rows: NDArray[np.int64], count: int) -> tuple[Vectors, NDArray[np.int64]]:
        """As `search` among these rows only, without the index: quicker when they are few."""
        _one_thread.set()
        count = min(count, len(rows))
        scores, places = _native.knn(queries, self.vectors[rows], count, metric=_native.METRIC_INNER_PRODUCT)
        return scores, np.where(places >= 0, rows[places], -1)

    def search(self, queries: Vectors, count: int, live: NDArray[np.bool_] | None = None) -> tuple[Vectors, NDArray[np.int64]]:
        """Cosines and rows of each query's best `count` among the live rows, best first; the row -1 stands for none."""
        _one_thread.set()
        count = min(count, len(self.vectors))
        if live is None:
            scores, rows = self.index.search(queries, count)
            return scores, rows
        bits = np.packbits(live, bitorder="little")
        selector = _native.IDSelectorBitmap(bits)
        scores, rows = self.index.search(queries, count, params=_native.SearchParameters(sel=selector))
        return scores, rows


class _OneThread(threading.local):
    """Keeps OpenMP to the calling thread: a second one hangs after fork and slows small machines (design/COMPONENTS.md §4)."""

    def __init__(self) -> None:
        self._done = False

    def set(self) -> None:
        if not self._done:
            _native.omp_set_num_threads(1)
            self._done = True


_one_thread = _OneThread()
