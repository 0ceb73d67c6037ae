"""Many small segments searched as one: what looking into each costs, beside the looking, is paid once.

Writers leave small segments, and merging follows. Neighbours among them are joined in memory: vectors in one matrix, postings in one
list a term. That costs a few milliseconds per thousand chunks, so it is done for snapshots that are asked often; it is shared by
snapshots that have the same segments, and all that is joined in a process is bounded: what was made first goes first. A snapshot joins
no more than fits, and waits longer each time others took the room: joining must never become what searches spend their time on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.faiss_codec import FLAT_ROWS, FlatIndex, join_flat
from agenthub.rag.kept import Kept
from agenthub.rag.keywords import KeywordIndex, Postings
from agenthub.rag.opened import Deferred, OpenSegment
from agenthub.rag.views import SegmentView

JOINED_AFTER: Final = 16
"""So many searches of a snapshot pay for joining it."""
LEAST_SEGMENTS: Final = 3
MOST_BYTES: Final = 64 * 1024 * 1024
"""Memory for joined segments in a process."""
_LARGEST_BYTES: Final = MOST_BYTES // 2
_ROW_BYTES: Final = 512
"""About what the postings of a chunk take."""


@dataclass(frozen=True, slots=True)
class JoinedPostings:
    """The postings of several indexes one after the other: rows count on from one to the next.

    The texts of terms are known by Python's 64-bit hashes of them, which are seeded anew in each process. Term `t`, by ascending
    hash, has the postings `bounds[t]` to `bounds[t + 1]`.
    """

    hashes: NDArray[np.int64]
    bounds: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint32]

    @classmethod
    def of(cls, indexes: Sequence[KeywordIndex]) -> JoinedPostings:
        """The joined postings of these indexes."""
        hashes = np.concatenate([_hashes(index) for index in indexes])
        lengths = np.concatenate([np.diff(index.bounds) for index in indexes])
        starts = np.cumsum([0, *(len(index.lengths) for index in indexes)])
        rows = np.concatenate([index.rows + np.uint32(start) for index, start in zip(indexes, starts.tolist(), strict=False)])
        counts = np.concatenate([index.counts for index in indexes]).astype(np.uint32)
        order = np.argsort(hashes, kind="stable")
        ends = np.cumsum(lengths)
        moved = lengths[order]
        # Where each posting comes from: behind the start of its term by as much as it is in its new place.
        sources = np.repeat((ends - lengths)[order] - (np.cumsum(moved) - moved), moved) + np.arange(len(rows))
        distinct, first = np.unique(hashes[order], return_index=True)
        bounds = np.append(np.cumsum(moved) - moved, len(rows))[np.append(first, len(order))]
        return cls(distinct, bounds, rows[sources], counts[sources])

    def of_term(self, term: bytes) -> Postings:
        """The rows that have the term, and how often each has it."""
        wanted = hash(term)
        at = int(np.searchsorted(self.hashes, wanted))
        there = at < len(self.hashes) and self.hashes[at] == wanted
        span = slice(self.bounds[at], self.bounds[at + 1]) if there else slice(0, 0)
        return self.rows[span], self.counts[span]


def _hashes(index: KeywordIndex) -> NDArray[np.int64]:
    data = index.terms.data.tobytes()
    spans = pairwise(index.terms.offsets.tolist())
    return np.fromiter((hash(data[first:end]) for first, end in spans), dtype=np.int64, count=len(index.terms))


class Joined:
    """Segments side by side as one, whatever of them a snapshot sees. `index` is None where another process has their vectors."""

    def __init__(self, segments: Sequence[OpenSegment]) -> None:
        indexes = [segment.index for segment in segments if isinstance(segment.index, FlatIndex)]
        self.index = join_flat(indexes) if len(indexes) == len(segments) else None
        self._postings = Deferred(lambda: JoinedPostings.of([segment.keywords for segment in segments]))
        self.size_bytes = sum(_joined_bytes(segment) for segment in segments)
        """Memory used, about, with the postings."""

    @property
    def postings(self) -> JoinedPostings:
        """The postings of all, made when they are first searched: reading a vector needs none."""
        return self._postings.get()


class Joining:
    """What is joined in this process, by the segments' keys. Safe to share between threads."""

    def __init__(self) -> None:
        self._kept: Kept[tuple[str, ...], Joined] = Kept(MOST_BYTES, lambda joined: joined.size_bytes)

    def of(self, views: Sequence[SegmentView]) -> Joined:
        """These segments as one, made or still there."""
        return self._kept.get(tuple(view.key for view in views), lambda: Joined([view.segment for view in views]))

    def forget(self, keys: AbstractSet[str]) -> None:
        """Let go of all that was made of any of these segments."""
        self._kept.forget(lambda key, _: not keys.isdisjoint(key))

    def close(self) -> None:
        """Let go of everything."""
        self._kept.forget(lambda *_: True)


@dataclass(frozen=True, slots=True)
class Run:
    """Views `first` to `end` of a snapshot, side by side, joined."""

    first: int
    end: int
    joined: Joined


class Neighbours:
    """The small segments of one snapshot that lie side by side: searched as one once the snapshot was asked often enough.

    It does not keep what is joined alive, so that its memory stays bounded for the process as a whole.
    """

    def __init__(self, views: Sequence[SegmentView], joining: Joining) -> None:
        self._views = views
        self._joining = joining
        self._spans = tuple(_spans(views))
        self._made: tuple[ReferenceType[Joined], ...] = ()
        self._asked = 0
        self._worth_after = JOINED_AFTER

    def runs(self, searches: int) -> tuple[Run, ...]:
        """What is joined for so many searches; empty when nothing is."""
        joined = [made() for made in self._made]
        if not joined or None in joined:
            self._asked += searches
            if not self._spans or self._asked < self._worth_after:
                return ()
            self._asked, self._worth_after = 0, 4 * self._worth_after  # should others take the room
            joined = [self._joining.of(self._views[first:end]) for first, end in self._spans]
            self._made = tuple(ref(one) for one in joined if one is not None)
        return tuple(Run(first, end, one) for (first, end), one in zip(self._spans, joined, strict=True) if one is not None)


def _spans(views: Sequence[SegmentView]) -> Iterator[tuple[int, int]]:
    """Where neighbours begin and end that are worth joining, as many as there is room for."""
    first, left_bytes = 0, MOST_BYTES
    for at in range(1, len(views) + 1):
        if at < len(views) and _joins(views[first:at], views[at]):
            continue
        size_bytes = _size_bytes(views[first:at])
        if at - first >= LEAST_SEGMENTS and size_bytes <= left_bytes:
            left_bytes -= size_bytes
            yield first, at
        first = at


def _joins(before: Sequence[SegmentView], view: SegmentView) -> bool:
    """Whether a view can be joined with those before it."""
    last = before[-1]
    small = all(one.segment.count < FLAT_ROWS for one in (before[0], view))
    return small and last.start + last.segment.count == view.start and _size_bytes((*before, view)) <= _LARGEST_BYTES


def _size_bytes(views: Sequence[SegmentView]) -> int:
    return sum(_joined_bytes(view.segment) for view in views)


def _joined_bytes(segment: OpenSegment) -> int:
    """Memory for a segment in a join, about."""
    return segment.count * (_ROW_BYTES + 4 * segment.header.dimension)
