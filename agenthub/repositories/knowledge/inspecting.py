"""Verifying a knowledge base exhaustively: row, manifest, segments, every byte; then rows against chunks against originals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import AgentHubError, VolumeUnavailable
from agenthub.rag.chunks import Chunk, id_hashes
from agenthub.rag.contract import Damage, DamageKind
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.rag.merging import Burials
from agenthub.rag.segment import SegmentEntry
from agenthub.rag.verifying import check_manifest
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.retention import GenerationRepository
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.storage.contract import Storage

MOST_PROBLEMS: Final = 100
"""How many problems a report lists; it counts all."""
ProblemKind = Literal["truth", "derived", "row", "document", "original"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit. `segment_id` and `document_id` say where, as far as it is in one."""

    kind: ProblemKind
    message: str
    segment_id: str | None = None
    document_id: str | None = None
    file: str | None = None


@dataclass(slots=True)
class Inspected:
    """What an inspection saw of one generation.

    `next_segment` is where to go on; None when all segments were seen. The row's counts, documents and originals are compared
    only by an inspection that began at the first segment and saw all; then `complete` is true.
    """

    generation: int
    segment_count: int = 0
    checked_segments: int = 0
    checked_bytes: int = 0
    checked_documents: int = 0
    next_segment: int | None = None
    complete: bool = False
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    def note(self, problem: Problem) -> None:
        """Count a problem, and list it while there is room."""
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def note_damage(self, damage: Damage) -> None:
        """As `note`; all damage is kept for repairing."""
        self.damages.append(damage)
        kind: DamageKind = damage.kind
        self.note(Problem(kind, damage.message, damage.segment_id, None, damage.file))

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.problem_count


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one inspection may read and how long it may take; a segment that was begun is finished."""

    bytes: float = float("inf")
    seconds: float = float("inf")


class Inspections:
    """Inspects knowledge bases. Reads only."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine) -> None:
        self._storage = storage
        self._engine = engine

    def inspect(self, base: KnowledgeBase, *, first_segment: int = 0, budget: Budget | None = None) -> Inspected:
        """What is wrong with the generation that this row names; all files are read anew.

        Raises: StorageUnavailable.
        """
        return _Inspection(self._storage, self._engine, base, budget or Budget()).run(first_segment)


class _Inspection:
    """One inspection."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, base: KnowledgeBase, budget: Budget) -> None:
        self._storage = storage
        self._engine = engine
        self._base = base
        self._budget = budget
        self._ends = time.monotonic() + budget.seconds
        self._seen = Inspected(base.generation)
        self._chunks: Counter[str] = Counter()
        self._hashes: list[NDArray[np.uint64]] = []
        self._readable = True

    def run(self, first_segment: int) -> Inspected:
        manifest, found = check_manifest(self._engine.volume, self._base.id, self._base.pointer)
        for damage in found:
            self._seen.note_damage(damage)
        self._record()
        if manifest is not None:
            self._segments(manifest, first_segment)
        if first_segment == 0 and self._seen.next_segment is None and manifest is not None:
            self._rows()
        return self._seen

    @property
    def _spent(self) -> bool:
        return self._seen.checked_bytes >= self._budget.bytes or time.monotonic() >= self._ends

    def _record(self) -> None:
        """The write that made this generation was recorded with this very pointer."""
        records = GenerationRepository(self._storage).of_generation(self._base, self._base.generation)
        if not records:
            self._seen.note(Problem("row", f"no record of the write that made generation {self._base.generation}"))
        elif all(one.pointer != self._base.pointer for one in records):
            self._seen.note(Problem("row", "the record of this generation's write names another manifest than the row"))

    def _segments(self, manifest: Manifest, first: int) -> None:
        seen, burials = self._seen, Burials(manifest.in_force(Snapshots(self._storage, self._engine).tombstones(self._base)))
        seen.segment_count = len(manifest.segments)
        for place, entry in enumerate(manifest.segments[first:], first):
            if self._spent and place > first:
                seen.next_segment = place
                return
            damages = self._engine.segments.check(self._base.id, entry, manifest.signature)
            for damage in damages:
                seen.note_damage(damage)
            seen.checked_segments += 1
            seen.checked_bytes += entry.size_bytes
            self._visible(entry, burials)

    def _visible(self, entry: SegmentEntry, burials: Burials) -> None:
        """Count the segment's visible chunks by document, and remember their ids."""
        try:
            chunks = self._engine.segments.chunks(self._base.id, entry)
            visible: list[Chunk] = [chunk for chunk in chunks if not burials.hide(chunk, entry.covers_generation)]
        except VolumeUnavailable:
            self._readable = False
            return
        self._chunks.update(chunk.document_id or "" for chunk in visible)
        self._hashes.append(id_hashes([chunk.id for chunk in visible]))

    # --- rows ---

    def _rows(self) -> None:
        """Compare rows with chunks; damaged segments are named already, and their chunks are missing from the counts."""
        if self._readable:
            self._counts()
        documents, size_bytes = 0, 0
        for document in History(self._storage).every_document(self._base):
            if self._spent:
                return
            documents += 1
            size_bytes += document.size_bytes
            self._document(document)
        self._seen.checked_documents = documents
        if documents != self._base.document_count:
            self._seen.note(Problem("row", f"the row counts {self._base.document_count} documents, there are {documents}"))
        if size_bytes != self._base.size_bytes:
            self._seen.note(Problem("row", f"the row says {self._base.size_bytes} bytes of documents, they have {size_bytes}"))
        if self._readable:
            for key in sorted(key for key in self._chunks if key):
                self._seen.note(Problem("document", f"{self._chunks[key]} chunks of a document that has no row", document_id=key))
        self._seen.complete = True

    def _counts(self) -> None:
        count = self._chunks.total()
        if count != self._base.chunk_count:
            self._seen.note(Problem("row", f"the row counts {self._base.chunk_count} chunks, {count} are visible"))
        ids = np.concatenate(self._hashes) if self._hashes else np.empty(0, dtype=np.uint64)
        if len(np.unique(ids)) != len(ids):
            self._seen.note(Problem("row", f"{len(ids) - len(np.unique(ids))} chunk ids are visible twice"))

    def _document(self, document: Document) -> None:
        found = self._chunks.pop(document.id, 0)
        if self._readable and found != document.chunk_count:
            message = f"its row counts {document.chunk_count} chunks, {found} are visible"
            self._seen.note(Problem("document", message, document_id=document.id))
        for problem in self._original(document):
            self._seen.note(problem)

    def _original(self, document: Document) -> Iterator[Problem]:
        if not document.original_name:
            return
        try:
            self._engine.read_original(self._base.id, document.original)
        except AgentHubError as error:
            yield Problem("original", error.message, document_id=document.id, file=document.original_name)
        self._seen.checked_bytes += document.size_bytes
