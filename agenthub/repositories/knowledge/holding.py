"""What may not be collected: the generations someone can still read or go back to, and the files they need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agenthub.core.types import EVERY_TENANT
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.rag.segment import FILES, HEADER, file_of
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, DocumentRepository
from agenthub.repositories.knowledge.jobs import JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS, KnowledgeOperation
from agenthub.repositories.knowledge.retention import Retention, every_row
from agenthub.storage.contract import And, Compare, DbNow, Order, Query, Storage


@dataclass(frozen=True, slots=True)
class Held:
    """The generations that are held, and their manifests. Several generations may share one."""

    generations: tuple[tuple[Pointer, Manifest], ...]

    @property
    def files(self) -> set[str]:
        """Their manifests and segments' files."""
        names = {pointer.name for pointer, _ in self.generations}
        return names.union(*(segment_files(entry.id for entry in manifest.segments) for _, manifest in self.generations))

    def needs_burials_of(self, generation: int) -> bool:
        """Whether a tombstone of this generation hides something in one of them that shows it."""
        return any(
            pointer.generation >= generation and any(entry.covers_generation < generation for entry in manifest.segments)
            for pointer, manifest in self.generations
        )


def segment_files(segment_ids: Iterable[str]) -> set[str]:
    """The names of all files of these segments."""
    return {file_of(segment_id, name) for segment_id in segment_ids for name in (HEADER, *FILES)}


class Holdings:
    """Asks what is held."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, slack_seconds: float) -> None:
        """`slack_seconds`: how long a generation is held after it was replaced, and after its retention ended, for those who
        came to it in time.
        """
        self._storage = storage
        self._engine = engine
        self._slack_seconds = slack_seconds

    def of(self, base: KnowledgeBase, now: datetime) -> Held:
        """What is held of a knowledge base that isn't deleted.

        Raises: MissingFile or CorruptFile when a manifest can't be read: then nothing at all may be collected.
        """
        kept = replace(base, retained_seconds=int(base.retained_seconds + self._slack_seconds))
        pointers = [*Retention(self._storage).retained_generations(kept, now), *self._recent(base, now)]
        manifests: dict[str, Manifest] = {}
        for pointer in dict.fromkeys(pointers):
            if pointer.sha256 not in manifests:
                manifests[pointer.sha256] = self._engine.read_manifest(base.id, pointer)
        return Held(tuple((pointer, manifests[pointer.sha256]) for pointer in dict.fromkeys(pointers)))

    def _recent(self, base: KnowledgeBase, now: datetime) -> Sequence[Pointer]:
        """The generations that were current within the slack, whatever the retention says."""
        own = Compare("knowledge_base_id", "eq", base.id)
        since = And((own, Compare("created_at", "gt", now - timedelta(seconds=self._slack_seconds))))
        first = self._storage.find(OPERATIONS, base.tenant_id, Query(since, (Order("generation"),), 1))
        if not first:
            return [base.pointer]
        where = And((own, Compare("generation", "ge", first[0]["generation"] - 1), Compare("generation", "le", base.generation)))
        return [KnowledgeOperation(**row).pointer for row in every_row(self._storage, OPERATIONS, base, where)]

    def originals(self, base: KnowledgeBase) -> set[str]:
        """The uploaded files that documents name, or named in generations that are in the history, and those that jobs have yet to read."""
        own = Compare("knowledge_base_id", "eq", base.id)
        unread = And((own, Compare("original_name", "ne", "")))
        tables = ((DocumentRepository.table, own), (DOCUMENT_HISTORY, own), (JobItemRepository.table, unread))
        return {str(row["original_name"]) for table, where in tables for row in every_row(self._storage, table, base, where)}

    def oldest_writer(self, kb_id: str) -> datetime | None:
        """When the writer that is longest at work will be given up; None when nobody writes."""
        alive = And((Compare("knowledge_base_id", "eq", kb_id), Compare("expires_at", "gt", DbNow())))
        rows = self._storage.find(INTENTS, EVERY_TENANT, Query(alive, (Order("expires_at"),), 1))
        return rows[0]["expires_at"] if rows else None
