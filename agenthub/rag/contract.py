"""The port of the vector engine: where the chunks and vectors of segments are kept, and who finds the nearest.

A segment is the unit of every adapter: written once, unseen until a committed manifest lists it, never changed, removed when nothing
refers to it. What a row of the database points to is the same with every adapter (manifests and their hashes), and so are tombstones,
generations, filters and keyword scores. Adapters: `on_volume` (files; the default) and `milvus` (`VECTOR_STORE_URL`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from agenthub.core.observe import Observer
from agenthub.rag.chunks import Chunk
from agenthub.rag.manifest import SegmentEntry
from agenthub.rag.vectors import Vectors

if TYPE_CHECKING:
    from agenthub.rag.joining import Run
    from agenthub.rag.opened import OpenSegment
    from agenthub.rag.ranking import Live, Ranked

DamageKind = Literal["truth", "derived"]
"""`truth` can only come from another copy; `derived` is made again from the truth."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something of a generation that is not what was written. `segment_id` is None for the manifest."""

    kind: DamageKind
    segment_id: str | None
    file: str
    message: str

    def __str__(self) -> str:
        return f"segment {self.segment_id}: {self.file}: {self.message}" if self.segment_id else f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a segment one after the other, the first of which is `first`; exactly what was written."""

    first: int
    chunks: Sequence[Chunk]
    vectors: Vectors


class Finding(Protocol):
    """What a searcher asks."""

    def nearest(self, live: Sequence[Live], runs: Sequence[Run], queries: Vectors, count: int, /) -> list[Ranked]:
        """For each query (of length 1) the `count` live rows of highest cosine over all these segments: as many as there are,
        whatever is excluded; equal scores by place. `runs` are those of the segments that are joined in memory.

        Raises: MissingFile when rows are gone; VectorEngineUnavailable.
        """

    def lines(self, places: Sequence[tuple[OpenSegment, int]]) -> list[bytes]:
        """The chunks of these rows as lines of JSON, in the order they are asked for.

        Raises: MissingFile; CorruptFile when what is there is another chunk; VectorEngineUnavailable.
        """


class Segments(Finding, Protocol):
    """The segments of all knowledge bases. Touches nothing until used, so it may be made before a fork; safe to share between threads."""

    @property
    def remains(self) -> Sequence[str]:
        """What of erased rows may stay where this can't reach, and until when: for the receipt of an erasure."""

    @property
    def shadows(self) -> bool:
        """Whether segments in another model can stand beside those of a knowledge base: what re-embedding needs."""

    def write(self, kb_id: str, chunks: Sequence[Chunk], vectors: Vectors, *, signature: str, language: str) -> SegmentEntry:
        """Write a new segment: durable, and found by whoever is told of it, when this returns. Vectors are scaled to length 1.

        After a failure nothing refers to it, and what is left of it is collected. Raises: InvalidInput naming the item
        (`items[3].vector`) or `language`; VolumeFull; VolumeUnavailable; VectorEngineUnavailable.
        """

    def discard(self, kb_id: str, entry: SegmentEntry) -> None:
        """Remove a segment that was never published, as far as possible; what stays is collected later."""

    def open(self, kb_id: str, entry: SegmentEntry, signature: str, observer: Observer) -> OpenSegment:
        """The segment, ready to be searched. A derived file that is damaged is made again in memory.

        Raises: MissingFile; CorruptFile; ModelMismatch when it was made with another model signature; WrongVectorEngine when
        another adapter wrote it; VolumeUnavailable; VectorEngineUnavailable.
        """

    def rows(self, kb_id: str, entry: SegmentEntry) -> Iterator[Rows]:
        """All rows in order, some at a time, each part verified against the hash it was written with.

        Raises: as `open`.
        """

    def chunks(self, kb_id: str, entry: SegmentEntry) -> Iterator[Chunk]:
        """As `rows`, without the vectors, which need not be whole for it where they are apart.

        Raises: as `open`.
        """

    def check(self, kb_id: str, entry: SegmentEntry, signature: str) -> list[Damage]:
        """What is wrong with a segment, all of it read anew; empty when nothing is.

        Raises: VectorEngineUnavailable: then nothing is known.
        """

    def rewritten(self, kb_id: str, entry: SegmentEntry) -> SegmentEntry:
        """A new segment with the same rows, everything derived made again. Nothing refers to it yet.

        Raises: MissingFile or CorruptFile when the truth can't be had; as `write`.
        """

    def mentions(self, kb_id: str, segment_id: str, document_id: str) -> bool:
        """Whether a row of the segment, listed or not, is of the document. What a killed writer left counts as far as it is there; of a
        segment that was complete once and has lost what would tell, as when a removal was killed, it has to be assumed.

        Raises: VolumeUnavailable; VectorEngineUnavailable.
        """

    def remove(self, kb_id: str, names: Sequence[str]) -> int:
        """Remove files of a knowledge base for good, and with those of a segment its rows wherever they are; how many files there were.

        Raises: VolumeUnavailable; VectorEngineUnavailable; WrongVectorEngine. What was not removed can be removed again.
        """

    def self_test(self) -> Mapping[str, Any]:
        """Facts for the health page, without secrets; asks the server if there is one.

        Raises: VectorEngineUnavailable.
        """

    def close(self) -> None:
        """Let go of connections. It can go on being used."""
