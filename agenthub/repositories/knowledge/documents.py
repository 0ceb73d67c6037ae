"""Documents: what was uploaded, and where its original lies. Its chunks live in segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agenthub.core.errors import NotFound
from agenthub.core.types import DocumentId, KnowledgeBaseId, TenantId
from agenthub.rag.references import FileRef
from agenthub.repositories.base import NEWEST_FIRST, Page, Repository, all_of, audit_action
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Compare, Delete, Filter, Insert, Order, Table, Update, Write


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a knowledge base, searchable as of `generation`. `revision` counts its replacements.

    `sha256` is of the uploaded bytes; `original_name` is the file on the volume, None for text given as JSON without a file.
    """

    id: DocumentId
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    title: str
    filename: str | None
    media_type: str
    size_bytes: int
    sha256: str
    original_name: str
    language: str | None
    page_count: int | None
    character_count: int
    chunk_count: int
    metadata: Mapping[str, Any]
    generation: int
    revision: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def original(self) -> FileRef:
        """Where the uploaded bytes are."""
        return FileRef(self.original_name, self.size_bytes, self.sha256)


class DocumentRepository(Repository[Document]):
    """Documents, always asked for with their knowledge base. Added, replaced and removed by commits of their knowledge base."""

    table = Table.of(
        "documents",
        Document,
        indexes=[("tenant_id", "knowledge_base_id", "id"), ("tenant_id", "knowledge_base_id", "sha256")],
    )
    entity = Document
    resource_kind = "document"

    def get_in(self, tenant_id: TenantId, knowledge_base_id: str, key: str) -> Document:
        """The document of that id in that knowledge base.

        Raises: NotFound when it is missing, in another knowledge base or another tenant's.
        """
        document = self.find(tenant_id, key)
        if document is None or document.knowledge_base_id != knowledge_base_id:
            raise NotFound("no document with this id")
        return document

    def page_in(
        self,
        tenant_id: TenantId,
        knowledge_base_id: str,
        *,
        where: Filter | None = None,
        order: tuple[Order, ...] = NEWEST_FIRST,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Document]:
        """One page of a knowledge base's documents, newest first."""
        whole = all_of(Compare("knowledge_base_id", "eq", knowledge_base_id), where)
        return self.page(tenant_id, where=whole, order=order, limit=limit, cursor=cursor)

    # --- parts of a knowledge base's commit ---

    def insertion(self, document: Document) -> Write:
        """The write that adds a document."""
        return Insert(self.table, row_of(document))

    def replacement(self, after: Document) -> Write:
        """The write that turns the document of this id and the version before into `after`."""
        changes = {name: value for name, value in row_of(after).items() if name not in ("id", "tenant_id", "version")}
        return Update(self.table, after.tenant_id, after.id, changes, after.version - 1)

    def removal(self, document: Document) -> Write:
        """The write that removes a document as it was read."""
        return Delete(self.table, document.tenant_id, document.id, document.version)

    def recounts(self, tenant_id: TenantId, lost: Mapping[str, int], now: datetime) -> list[Write]:
        """The writes that lower the chunk counts of documents by what each lost."""
        documents = self.get_many(tenant_id, list(lost))
        return [
            Update(self.table, tenant_id, key, {"chunk_count": document.chunk_count - lost[key], "updated_at": now}, document.version)
            for key, document in documents.items()
        ]

    def audited(self, document: Document, verb: str, now: datetime) -> Write:
        """The audit row of a change to a document."""
        action = audit_action(self.resource_kind, verb)
        base_id = document.knowledge_base_id
        return self._operation.audit(document.tenant_id, action, self.resource_kind, document.id, now, knowledge_base_id=base_id)
