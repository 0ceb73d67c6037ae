"""Vectors of a re-embedding's model that are on the volume already, by the text they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import VolumeUnavailable
from agenthub.rag.contract import Rows
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest, SegmentEntry
from agenthub.rag.vectors import Vectors
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.reembeddings import Mirror, Reembedding, mirroring
from agenthub.repositories.knowledge.retention import Retention
from agenthub.storage.contract import Storage

MOST_ROWS: Final = 4_000_000
"""Rows that are looked up, at most: each takes 24 bytes."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""Vectors that are held where the volume can't be mapped into memory, at most."""
_DIGEST_BYTES: Final = 16


class KnownVectors:
    """Of pieces whose live segment was merged or taken back, and of generations that pins keep.

    A vector depends on its text alone. So neither merging nor going back to a model embeds anything again.
    """

    def __init__(self, storage: Storage, engine: KnowledgeEngine, row: Reembedding) -> None:
        self._storage = storage
        self._engine = engine
        self._row = row
        self._learnt: dict[str, _Segment | None] = {}
        self._kept: list[SegmentEntry] | None = None
        self._rows = 0
        self._bytes = 0

    def of(self, texts: Sequence[str]) -> dict[int, Vectors]:
        """The vectors of those of the texts that are known, by the text's place."""
        digests = _digests(texts)
        found: dict[int, Vectors] = {}
        for segment in filter(None, self._learnt.values()):
            found |= segment.of(digests)
            if len(found) == len(texts):
                break
        return found

    def learn(self, base: KnowledgeBase, manifest: Manifest, mirrors: Sequence[Mirror]) -> None:
        """Take note of what is there beside what mirrors this generation."""
        live = {one.id for entry in manifest.segments for one in mirroring(entry, mirrors)}
        left = [one.entry for one in mirrors if one.segment_id and one.id not in live]
        if self._kept is None:
            self._kept = self._of_kept_generations(base)
        for entry in (*left, *self._kept):
            if entry.id not in self._learnt and self._room_for(entry):
                self._learnt[entry.id] = self._read(base, entry)

    def _room_for(self, entry: SegmentEntry) -> bool:
        size = 0 if self._engine.volume.mapped else entry.chunk_count * 4 * self._row.dimension
        if self._rows + entry.chunk_count > MOST_ROWS or self._bytes + size > MOST_BYTES:
            return False
        self._rows += entry.chunk_count
        self._bytes += size
        return True

    def _of_kept_generations(self, base: KnowledgeBase) -> list[SegmentEntry]:
        """The segments in this model of generations that pins keep."""
        found: dict[str, SegmentEntry] = {}
        for pin in Retention(self._storage).of(base, self._storage.now()).pins:
            try:
                manifest = self._engine.read_manifest(base.id, pin.pointer)
            except VolumeUnavailable:
                continue  # it has to be embedded again, no more
            if manifest.signature == self._row.signature:
                found |= {entry.id: entry for entry in manifest.segments}
        return list(found.values())

    def _read(self, base: KnowledgeBase, entry: SegmentEntry) -> _Segment | None:
        try:
            return _Segment(self._engine.segments.rows(base.id, entry))
        except VolumeUnavailable:
            return None  # erased, given up, or damaged: it is embedded


class _Segment:
    """The vectors of one segment: views of its file where that is mapped."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._parts: list[Vectors] = []
        self._starts: list[int] = []
        digests: list[NDArray[np.bytes_]] = []
        for part in rows:
            self._parts.append(part.vectors)
            self._starts.append(part.first)
            digests.append(_digests([chunk.searched_text for chunk in part.chunks]))
        known = np.concatenate(digests) if digests else _digests(())
        self._order = np.argsort(known, kind="stable")
        self._sorted = known[self._order]

    def of(self, digests: NDArray[np.bytes_]) -> dict[int, Vectors]:
        """The vectors of these texts that it has, by place."""
        if not len(self._sorted):
            return {}
        places = np.minimum(np.searchsorted(self._sorted, digests), len(self._sorted) - 1)
        hits = np.flatnonzero(self._sorted[places] == digests)
        return {int(hit): self._vector(int(self._order[places[hit]])) for hit in hits}

    def _vector(self, row: int) -> Vectors:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        vector: Vectors = self._parts[part][row - self._starts[part]]
        return vector


def _digests(texts: Sequence[str]) -> NDArray[np.bytes_]:
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest() for text in texts]
    return np.array(digests, dtype=f"S{_DIGEST_BYTES}")
