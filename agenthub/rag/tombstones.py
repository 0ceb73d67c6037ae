"""Deletes: marks in the repository that hide rows of segments, which never change (RELIABILITY.md B5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.chunks import IdIndex, decode_chunk, id_hashes
from agenthub.rag.opened import OpenSegment
from agenthub.rag.references import Tombstone

__all__ = ["Graveyard", "Tombstone"]


class Graveyard:
    """The tombstones of one snapshot, ready to be applied to many segments."""

    def __init__(self, tombstones: Sequence[Tombstone]) -> None:
        self._documents = _Graves([one for one in tombstones if one.kind == "document"])
        self._chunks = _Graves([one for one in tombstones if one.kind == "chunk"])

    def visible(self, segment: OpenSegment, covers_generation: int) -> NDArray[np.bool_] | None:
        """Which rows are visible; None where all are."""
        hidden = [
            *self._documents.rows(segment, segment.columns.document_ids, covers_generation, of_document=True),
            *self._chunks.rows(segment, segment.columns.chunk_ids, covers_generation, of_document=False),
        ]
        if not hidden:
            return None
        visible = np.ones(segment.count, dtype=np.bool_)
        visible[np.concatenate(hidden)] = False
        return visible


class _Graves:
    """The tombstones of one kind."""

    def __init__(self, tombstones: Sequence[Tombstone]) -> None:
        self._ids = [one.target_id for one in tombstones]
        self._hashes = id_hashes(self._ids)
        self._generations = np.array([one.generation for one in tombstones], dtype=np.int64)

    def rows(self, segment: OpenSegment, index: IdIndex, covers_generation: int, *, of_document: bool) -> list[NDArray[np.uint32]]:
        newer = np.flatnonzero(self._generations > covers_generation)
        found = list(index.find(self._hashes[newer]))
        chunks = [decode_chunk(line) for line in segment.lines.read([int(rows[0]) for _, rows in found])]
        named = [chunk.document_id if of_document else chunk.id for chunk in chunks]
        return [rows for (place, rows), name in zip(found, named, strict=True) if name == self._ids[int(newer[place])]]
