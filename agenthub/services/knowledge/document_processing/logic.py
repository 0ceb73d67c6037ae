"""Documents into and out of a knowledge base, each change in one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agenthub.core.errors import AgentHubError, NotFound, PayloadTooLarge, UnsupportedDocument
from agenthub.core.types import TenantId
from agenthub.rag.references import FileRef
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits, Plan, Staging
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources
from agenthub.services.knowledge.document_processing.preparing import Prepared, Upload, prepare, stack


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was not taken, and why."""

    upload: Upload
    error: AgentHubError


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did: gone from `generation` on."""

    generation: int
    deleted: tuple[str, ...]
    missing: tuple[str, ...]


Answer = Callable[[Sequence[Document], int], object]
"""Makes the request's answer of the documents as committed and their generation."""

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

    def prepare_all(self, uploads: Sequence[Upload], creator: str) -> tuple[list[Prepared], list[Refusal]]:
        """Read, cut and embed every upload; those that can't be read come back as refusals."""
        now = self._documents.now()
        prepared: list[Prepared] = []
        refused: list[Refusal] = []
        for upload in uploads:
            try:
                prepared.append(prepare(self._resources, self.base, upload, creator, now))
            except (UnsupportedDocument, PayloadTooLarge) as error:
                refused.append(Refusal(upload, error))
        return prepared, refused

    def add(self, prepared: Sequence[Prepared], answer: Answer) -> object:
        """Keep the documents and make them searchable together.

        Raises: RateLimited while merging has to catch up.
        """
        self._resources.upkeep.admit(self.base)
        with self._commits.staging(self.base) as staging:
            documents = self._stage(staging, prepared)
            answered: object = staging.publish(self._addition(documents, answer))
        self._resources.upkeep.notice(self.base.id)
        return answered

    def _stage(self, staging: Staging, prepared: Sequence[Prepared]) -> list[Document]:
        originals = [staging.put_original(item.upload.data) for item in prepared]
        chunks = [chunk for item in prepared for chunk in item.chunks]
        staging.write_segment(chunks, stack([item.vectors for item in prepared]))
        return [replace(item.document, original_name=original.name) for item, original in zip(prepared, originals, strict=True)]

    def _addition(self, documents: Sequence[Document], answer: Answer) -> Plan:
        def plan(_base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            stamped = [replace(d, generation=generation, created_at=now, updated_at=now) for d in documents]
            writes = [self._documents.insertion(document) for document in stamped]
            writes += [self._documents.audited(document, "create", now) for document in stamped]
            return Effect(
                answer(stamped, generation),
                "add",
                writes=tuple(writes),
                documents_delta=len(stamped),
                chunks_delta=sum(d.chunk_count for d in stamped),
                size_delta_bytes=sum(d.size_bytes for d in stamped),
            )

        return plan

    def replace(self, document_id: str, prepared: Prepared, answer: Answer) -> object:
        """Put new content in a document's place: readers see the old or the new one, never both and never none.

        Raises: NotFound when there is no such document, also when it was deleted meanwhile.
        """
        self._documents.get_in(self.base.tenant_id, self.base.id, document_id)
        chunks = [replace(chunk, document_id=document_id) for chunk in prepared.chunks]
        self._resources.upkeep.admit(self.base)
        with self._commits.staging(self.base) as staging:
            original = staging.put_original(prepared.upload.data)
            staging.write_segment(chunks, prepared.vectors)
            answered: object = staging.publish(self._replacement(document_id, prepared.document, original, answer))
        self._resources.upkeep.notice(self.base.id)
        return answered

    def _replacement(self, document_id: str, new: Document, original: FileRef, answer: Answer) -> Plan:
        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            old = self._documents.get_in(base.tenant_id, base.id, document_id)
            after = replace(
                new,
                id=old.id,
                created_by=old.created_by,
                created_at=old.created_at,
                updated_at=now,
                original_name=original.name,
                generation=generation,
                revision=old.revision + 1,
                version=old.version + 1,
            )
            return Effect(
                answer([after], generation),
                "replace",
                burials=(Burial("document", old.id),),
                writes=(*self._documents.replacement(old, after), self._documents.audited(after, "replace", now)),
                chunks_delta=after.chunk_count - old.chunk_count,
                size_delta_bytes=after.size_bytes - old.size_bytes,
            )

        return plan

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
            writes = [write for document in present for write in self._documents.removal(document, generation)]
            writes += [self._documents.audited(document, "delete", now) for document in present]
            return Effect(
                answer(Deleted(generation, tuple(d.id for d in present), tuple(key for key in wanted if key not in found))),
                "delete",
                burials=tuple(Burial("document", document.id) for document in present),
                writes=tuple(writes),
                documents_delta=-len(present),
                chunks_delta=-sum(d.chunk_count for d in present),
                size_delta_bytes=-sum(d.size_bytes for d in present),
            )

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
