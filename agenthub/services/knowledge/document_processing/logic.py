"""Documents out of a knowledge base, each change in one commit. Into it they come by jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from agenthub.core.errors import NotFound
from agenthub.core.types import TenantId
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.documents import DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.removing import removing
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did: gone from `generation` on."""

    generation: int
    deleted: tuple[str, ...]
    missing: tuple[str, ...]


DeletedAnswer = Callable[[Deleted], object]
"""Makes the request's answer of what was deleted."""


class Library:
    """The documents of one knowledge base, for one request."""

    def __init__(self, resources: Resources, operation: Operation, tenant_id: TenantId, knowledge_base_id: str) -> None:
        self._resources = resources
        self._operation = operation
        self._documents = DocumentRepository(resources.storage, operation)
        self._commits = KnowledgeCommits(resources.storage, resources.knowledge, operation)
        self.base: KnowledgeBase = KnowledgeBaseRepository(resources.storage).get(tenant_id, knowledge_base_id)

    def delete(self, ids: Sequence[str], answer: DeletedAnswer) -> object:
        """Hide documents at once and everywhere; needs no space on the volume.

        Raises: NotFound when none of them exists.
        """
        wanted = list(dict.fromkeys(ids))
        return self._commits.publish(self.base, (), self._deletion(wanted, answer))

    def _deletion(self, wanted: Sequence[str], answer: DeletedAnswer) -> Plan:
        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            known = self._documents.get_many(base.tenant_id, wanted)
            present = [d for d in (known.get(key) for key in wanted) if d is not None and d.knowledge_base_id == base.id]
            if not present:
                raise NotFound("no document with this id" if len(wanted) == 1 else "no document with any of these ids")
            found = {document.id for document in present}
            deleted = Deleted(generation, tuple(d.id for d in present), tuple(key for key in wanted if key not in found))
            return removing(self._documents, present, generation, now, answer(deleted))

        return plan

    def delete_chunks(self, ids: Sequence[str], answer: DeletedAnswer) -> object:
        """Hide single chunks; those of documents lower the document's count.

        Raises: NotFound when none of them exists.
        """
        wanted = list(dict.fromkeys(ids))
        return self._commits.publish(self.base, (), self._chunk_deletion(wanted, answer))

    def _chunk_deletion(self, wanted: Sequence[str], answer: DeletedAnswer) -> Plan:
        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            found = Snapshots(self._resources.storage, self._resources.knowledge).at(base).find_chunks(wanted)
            if not found:
                raise NotFound("no chunk with this id" if len(wanted) == 1 else "no chunk with any of these ids")
            present = tuple(key for key in wanted if key in found)
            lost = Counter(chunk.document_id for chunk in found.values() if chunk.document_id)
            audit = self._operation.audit(base.tenant_id, "chunk.delete", "knowledge_base", base.id, now, count=len(present))
            return Effect(
                answer(Deleted(generation, present, tuple(key for key in wanted if key not in found))),
                "delete",
                burials=tuple(Burial("chunk", key) for key in present),
                writes=(*self._documents.recounts(base.tenant_id, lost, generation, now), audit),
                chunks_delta=-len(present),
            )

        return plan
