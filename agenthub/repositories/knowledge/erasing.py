"""Erasing: hidden at once, then gone from every place this deployment writes to, with a receipt (RELIABILITY.md B10).

The first commit needs no disk: it hides the document, ends all older generations and leaves the receipt, which is also the job.
What follows can be repeated from the start by anyone, until the receipt says that it is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from agenthub.core.errors import Conflict, NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import DocumentId, KnowledgeBaseId, TenantId
from agenthub.rag.engine import KnowledgeEngine
from agenthub.repositories.base import Repository
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, Document, DocumentRepository
from agenthub.repositories.knowledge.jobs import JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.retention import Retention, every_row
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import And, Compare, Delete, DeleteWhere, Insert, Query, Storage, Table, Update, Write

ERASE_SECONDS: Final = 24 * 3600
"""Within this time an erasure is done, provided that maintenance runs; on a running server it takes seconds."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """The erasing of one document, and its receipt.

    From `generation` on nobody finds the document, and no older generation can be read. `report` says for every place that was
    checked what was found and removed, and under `remains` what is left where and why; until it is done, under `waits_for` what
    keeps it from that.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    document_id: DocumentId
    state: Literal["hidden", "done"]
    generation: int
    originals: Sequence[str]
    requested_by: str | None
    requested_at: datetime
    due_at: datetime
    completed_at: datetime | None
    report: Mapping[str, Any]
    version: int = 1


class ErasureRepository(Repository[Erasure]):
    """Erasures and their receipts. They are kept."""

    table = Table.of("kb_erasures", Erasure, indexes=[("tenant_id", "knowledge_base_id", "id"), ("state", "id")])
    entity = Erasure
    resource_kind = "erasure"

    def get_in(self, tenant_id: TenantId, knowledge_base_id: str, key: str) -> Erasure:
        """The erasure of that id in that knowledge base.

        Raises: NotFound when it is missing, in another knowledge base or another tenant's.
        """
        erasure = self.get(tenant_id, key)
        if erasure.knowledge_base_id != knowledge_base_id:
            raise NotFound("no erasure with this id")
        return erasure

    def unfinished(self, tenant_id: TenantId, knowledge_base_id: str) -> list[Erasure]:
        """Those of a knowledge base that are not done, oldest first; at most a thousand."""
        where = And((Compare("knowledge_base_id", "eq", knowledge_base_id), Compare("state", "eq", "hidden")))
        return [self.from_row(row) for row in self._storage.find(self.table, tenant_id, Query(where, (), 1000))]

    def wait(self, erasure: Erasure, report: Mapping[str, Any]) -> None:
        """Note what it waits for. Raises: VersionConflict when another maintainer was first."""
        self._storage.commit([Update(self.table, erasure.tenant_id, erasure.id, {"report": dict(report)}, erasure.version)])

    def complete(self, erasure: Erasure, report: Mapping[str, Any]) -> None:
        """Note that it is done. Raises: VersionConflict when another maintainer was first."""
        changes = {"state": "done", "completed_at": self._storage.now(), "report": dict(report)}
        self.update(erasure.tenant_id, erasure.id, changes, expected_version=erasure.version, verb="complete")


class EraseRequests:
    """Begins erasures."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation) -> None:
        self._storage = storage
        self._engine = engine
        self._operation = operation

    def request(self, base: KnowledgeBase, document_id: str, answer: Any) -> Any:
        """Hide the document for good and leave the receipt; needs no space on the volume. Returns what `answer` makes of it.

        A document that was deleted before can be erased while something of it is known.
        Raises: NotFound when nothing is; Conflict naming the named snapshots that would have to go first.
        """
        commits = KnowledgeCommits(self._storage, self._engine, self._operation)
        return commits.publish(base, (), self._plan(document_id, answer))

    def _plan(self, document_id: str, answer: Any) -> Plan:
        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            live = DocumentRepository(self._storage).find(base.tenant_id, document_id)
            live = live if live and live.knowledge_base_id == base.id else None
            past = self._past(base, document_id)
            if live is None and not past:
                raise NotFound("no document with this id")
            self._refuse_snapshots(base)
            erasure = self._draft(base, document_id, generation, now, [*past, live.original_name if live else ""])
            return Effect(
                answer(erasure),
                "erase",
                burials=(Burial("document", document_id),),
                writes=(*self._removals(base, document_id, live), *self._record(erasure, now)),
                documents_delta=-1 if live else 0,
                chunks_delta=-live.chunk_count if live else 0,
                size_delta_bytes=-live.size_bytes if live else 0,
                details={"erasure_id": erasure.id},
            )

        return plan

    def _refuse_snapshots(self, base: KnowledgeBase) -> None:
        names = sorted(pin.name for pin in Retention(self._storage).pins(base) if pin.name)
        if names:
            raise Conflict(f"named snapshots keep older contents; delete them first: {', '.join(names)}")

    def _past(self, base: KnowledgeBase, document_id: str) -> list[str]:
        """The originals of what the document was before, and of what jobs were to make it."""
        where = _of_document(base, document_id)
        tables = (DOCUMENT_HISTORY, JobItemRepository.table)
        return [str(row["original_name"]) for table in tables for row in every_row(self._storage, table, base, where)]

    def _draft(self, base: KnowledgeBase, document_id: str, generation: int, now: datetime, originals: Sequence[str]) -> Erasure:
        return Erasure(
            id=new_id(),
            tenant_id=base.tenant_id,
            knowledge_base_id=base.id,
            document_id=DocumentId(document_id),
            state="hidden",
            generation=generation,
            originals=tuple(sorted({name for name in originals if name})),
            requested_by=self._operation.actor.id,
            requested_at=now,
            due_at=now + timedelta(seconds=ERASE_SECONDS),
            completed_at=None,
            report={},
        )

    def _removals(self, base: KnowledgeBase, document_id: str, live: Document | None) -> list[Write]:
        tables = (DOCUMENT_HISTORY, JobItemRepository.table)
        writes: list[Write] = [DeleteWhere(table, base.tenant_id, _of_document(base, document_id)) for table in tables]
        if live:
            writes.append(Delete(DocumentRepository.table, base.tenant_id, live.id, live.version))
        return writes

    def _record(self, erasure: Erasure, now: datetime) -> list[Write]:
        tenant_id, document_id, more = erasure.tenant_id, erasure.document_id, {"erasure_id": erasure.id}
        audit = self._operation.audit(
            tenant_id, "document.erase", "document", document_id, now, knowledge_base_id=erasure.knowledge_base_id, **more
        )
        return [Insert(ErasureRepository.table, row_of(erasure)), audit]


def _of_document(base: KnowledgeBase, document_id: str) -> And:
    return And((Compare("knowledge_base_id", "eq", base.id), Compare("document_id", "eq", document_id)))
