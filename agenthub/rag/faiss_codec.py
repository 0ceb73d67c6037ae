"""FAISS indexes to bytes and back: the only module that knows FAISS.

FAISS trusts what it reads, so an index is opened only after its hash was checked, its kind is one we make, and the counts
in its header are the segment's. Indexes are never changed once made, and are searched by one thread at a time each caller.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.rag.choosing import Chosen
from agenthub.rag.vectors import Vectors

_native: Final[Any] = faiss  # the bindings carry wrong types
IndexKind = Literal["flat", "ivf"]
FLAT_ROWS: Final = 2048
"""Segments below this many rows are searched exactly: about 0.1 ms, and nothing has to be trained when chunks arrive."""
_FLAT_TAG: Final = b"IxFI"  # an exact index of inner products
_HEADER: Final = struct.Struct("<4siq")
_FLAT_OVERHEAD_BYTES: Final = 45
_OVERFETCH_ROWS: Final = 200
"""Up to this many excluded rows it is quicker to ask for that many more than to have every row tested."""
_BATCH: Final = 32
"""From so many queries on, two threads answer faster than one."""
_SEED: Final = 1123
_TRAINING_ROWS: Final = 64
_ROUNDS: Final = 6
_BLOCK_ROWS: Final = 16_384
Rows = NDArray[np.int64]


def choose_index(count: int) -> IndexKind:
    """The kind of index a segment of `count` vectors gets (measured in docs/adr/0013)."""
    return "flat" if count < FLAT_ROWS else "ivf"


def exact(queries: Vectors, vectors: Vectors, count: int) -> tuple[Vectors, Rows]:
    """Cosines and places of each query's best `count` of these vectors, best first, by comparing all."""
    _use_threads(len(queries))
    scores, rows = _native.knn(queries, vectors, min(count, len(vectors)), metric=_native.METRIC_INNER_PRODUCT)
    return scores, rows


def _use_threads(queries: int) -> None:
    """OpenMP's number is the calling thread's own. One for few queries: a second one only waits (design/COMPONENTS.md §4)."""
    _native.omp_set_num_threads(min(2, os.cpu_count() or 1) if queries >= _BATCH else 1)


# -- exact


def build_flat(vectors: Vectors) -> memoryview:
    """An exact index of these unit vectors, as the bytes of its file."""
    index = _native.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return _serialized(index)


def _serialized(index: Any) -> memoryview:
    data: NDArray[np.uint8] = _native.serialize_index(index)
    return data.data


def open_index(data: NDArray[np.uint8], kind: str, count: int, dimension: int) -> FlatIndex:
    """The exact index in these bytes, which are used in place and must not change.

    Raises: CorruptFile when it is of another kind or size than the segment says.
    """
    if kind != "flat" or data.nbytes != _FLAT_OVERHEAD_BYTES + count * dimension * 4:
        raise CorruptFile("an index file has an unknown kind or a wrong size")
    if _HEADER.unpack(data[: _HEADER.size].tobytes()) != (_FLAT_TAG, dimension, count):
        raise CorruptFile("an index file's header does not fit its segment")
    index = _read(data)
    if type(index) is not _native.IndexFlatIP or _flat_facts(index) != (
        count,
        dimension,
        count * dimension * 4,
        _native.METRIC_INNER_PRODUCT,
        True,
    ):
        raise CorruptFile("an index file holds something else than its header says")
    return FlatIndex(index, data, data[_FLAT_OVERHEAD_BYTES:].view("<f4").reshape(count, dimension))


def _read(data: NDArray[np.uint8]) -> Any:
    try:
        return _native.read_index(_native.ZeroCopyIOReader(_native.swig_ptr(data), data.nbytes))
    except RuntimeError as error:
        raise CorruptFile("an index file can't be read") from error


def _flat_facts(index: Any) -> tuple[int, int, int, int, bool]:
    return index.ntotal, index.d, index.codes.size(), index.metric_type, index.is_trained


@dataclass(frozen=True, slots=True)
class FlatIndex:
    """An opened exact index. `vectors` are its rows, not a copy; `data` is what both are made of."""

    index: Any
    data: NDArray[np.uint8]
    vectors: Vectors

    @property
    def size_bytes(self) -> int:
        """Memory used, shared or not."""
        return self.data.nbytes

    def agrees_with(self, vectors: Vectors) -> bool:
        """Whether it was made of these vectors."""
        return np.array_equal(self.vectors, vectors)

    def nearest(self, queries: Vectors, count: int, chosen: Chosen | None, brute_force_fraction: float) -> tuple[Vectors, Rows]:
        """Cosines and rows of each query's best `count` among the chosen rows, best first; the row -1 stands for none."""
        total = len(self.vectors)
        if chosen is None:
            return self.search(queries, count)
        if chosen.count <= max(count, total * brute_force_fraction):
            return self.search_rows(queries, chosen.numbers, count)
        if total - chosen.count <= _OVERFETCH_ROWS:
            scores, rows = self.search(queries, count + total - chosen.count)
            return scores, np.where(chosen.rows[rows], rows, -1)
        return self.search(queries, count, chosen)

    def search_rows(self, queries: Vectors, rows: Rows, count: int) -> tuple[Vectors, Rows]:
        """As `search` among these rows only, without the index: quicker when they are few."""
        scores, places = exact(queries, self.vectors[rows], count)
        return scores, np.where(places >= 0, rows[places], -1)

    def search(self, queries: Vectors, count: int, chosen: Chosen | None = None) -> tuple[Vectors, Rows]:
        """Cosines and rows of each query's best `count`, tested one by one whether they are chosen."""
        _use_threads(len(queries))
        parameters = None if chosen is None else _native.SearchParameters(sel=_native.IDSelectorBitmap(chosen.bits))
        scores, rows = self.index.search(queries, min(count, len(self.vectors)), params=parameters)
        return scores, rows


def join_flat(parts: Sequence[FlatIndex]) -> FlatIndex:
    """An exact index of the rows of all these, one after the other: a copy."""
    index = _native.IndexFlatIP(parts[0].vectors.shape[1])
    index.add(np.concatenate([part.vectors for part in parts]))
    vectors: Vectors = _native.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(index.ntotal, index.d)
    return FlatIndex(index, vectors.reshape(-1).view(np.uint8), vectors)


# -- lists of codes


def build_lists(vectors: Vectors, list_count: int) -> memoryview:
    """Rows in lists around trained centres, each number of a vector in eight bits, as the bytes of their file.

    The same vectors give the same lists on the same machine.
    """
    _use_threads(1)
    dimension = vectors.shape[1]
    centres = _native.IndexFlatIP(dimension)
    _train(centres, vectors, list_count)
    index = _native.IndexIVFScalarQuantizer(
        centres, dimension, list_count, _native.ScalarQuantizer.QT_8bit, _native.METRIC_INNER_PRODUCT, False
    )
    _train_ranges(index, vectors)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        index.add(vectors[start : start + _BLOCK_ROWS])
    return _serialized(index)


def _train(centres: Any, vectors: Vectors, list_count: int) -> None:
    clustering = _native.Clustering(vectors.shape[1], list_count)
    clustering.niter = _ROUNDS
    clustering.spherical = True
    clustering.seed = _SEED
    clustering.min_points_per_centroid = 1
    sampled = min(len(vectors), list_count * _TRAINING_ROWS)
    chosen = np.random.default_rng(_SEED).choice(len(vectors), sampled, replace=False)
    clustering.train(np.ascontiguousarray(vectors[np.sort(chosen)]), centres)


def _train_ranges(index: Any, vectors: Vectors) -> None:
    """The quantizer learns from the lowest and the highest number of every dimension that there are: nothing is cut off."""
    limits = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    index.sq.train(limits)
    index.is_trained = True


def open_lists(data: NDArray[np.uint8], count: int, dimension: int) -> CodeLists:
    """The lists in these bytes, which are used in place and must not change.

    Raises: CorruptFile when they are of another kind or size than the segment says, or a row isn't in them exactly once.
    """
    index = _read(data)
    if type(index) is not _native.IndexIVFScalarQuantizer or not _fits(index, count, dimension):
        raise CorruptFile("an index file does not fit its segment")
    owners = np.full(count, -1, dtype=np.int32)
    for number in range(index.nlist):
        if not (size := index.invlists.list_size(number)):
            continue
        rows = _native.rev_swig_ptr(index.invlists.get_ids(number), size)
        if rows.min() < 0 or rows.max() >= count:
            raise CorruptFile("an index file names rows that its segment does not have")
        owners[rows] = number
    if np.any(owners < 0):
        raise CorruptFile("an index file lacks rows of its segment")
    centres = _native.downcast_index(index.quantizer).reconstruct_n(0, index.nlist)
    ranges = _native.vector_to_array(index.sq.trained).reshape(2, dimension)
    return CodeLists(index, data, centres, owners, ranges[0], ranges[1])


def _fits(index: Any, count: int, dimension: int) -> bool:
    own = (index.ntotal, index.d, index.metric_type, index.is_trained, index.by_residual, index.code_size)
    if own != (count, dimension, _native.METRIC_INNER_PRODUCT, True, False, dimension):
        return False
    centres, wanted = (
        _native.downcast_index(index.quantizer),
        (index.nlist, dimension, index.nlist * dimension * 4, _native.METRIC_INNER_PRODUCT, True),
    )
    if type(centres) is not _native.IndexFlatIP or _flat_facts(centres) != wanted:
        return False
    codes = (index.sq.d, index.sq.qtype, index.sq.code_size, index.sq.trained.size())
    if codes != (dimension, _native.ScalarQuantizer.QT_8bit, dimension, 2 * dimension):
        return False
    lists = index.invlists
    sizes = [lists.list_size(number) for number in range(index.nlist)]
    return bool(lists.nlist == index.nlist and lists.code_size == dimension and sum(sizes) == count)


@dataclass(frozen=True, slots=True)
class CodeLists:
    """Opened lists. Row `r` is in list `owners[r]`; dimension `d` has 256 levels from `lowest[d]` on over `spread[d]`."""

    index: Any
    data: NDArray[np.uint8]
    centres: Vectors
    owners: NDArray[np.int32]
    lowest: Vectors
    spread: Vectors
    parameters: dict[int, Any] = field(default_factory=dict)

    def search(self, queries: Vectors, count: int, probes: int, chosen: Chosen | None) -> tuple[Vectors, Rows]:
        """Approximate cosines and rows of each query's best `count` in its `probes` nearest lists; the row -1 stands for none."""
        _use_threads(len(queries))
        if chosen is None:
            parameters = self._plain_parameters(probes)
        else:
            parameters = _native.SearchParametersIVF(sel=_native.IDSelectorBitmap(chosen.bits), nprobe=probes)
        scores, rows = self.index.search(queries, count, params=parameters)
        return scores, rows

    def _plain_parameters(self, probes: int) -> Any:
        """Made once for each number of lists: making them takes a tenth of a search."""
        made = self.parameters.get(probes)
        if made is None:
            made = self.parameters[probes] = _native.SearchParametersIVF(sel=None, nprobe=probes)
        return made

    def rough_vectors(self) -> Vectors:
        """The vectors that the codes stand for, by row: a copy."""
        lists = self.index.invlists
        rough = np.empty((len(self.owners), self.index.d), dtype=np.float32)
        for number in range(self.index.nlist):
            size = lists.list_size(number)
            if size:
                rows = _native.rev_swig_ptr(lists.get_ids(number), size)
                codes = _native.rev_swig_ptr(lists.get_codes(number), size * self.index.d).reshape(size, -1)
                rough[rows] = (codes + np.float32(0.5)) * (self.spread / np.float32(255)) + self.lowest
        return rough
