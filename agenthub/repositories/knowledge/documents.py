"""Documents: what was uploaded, and where its original lies. Its chunks live in segments.

A question with its answer (a FAQ) is a document too: its row holds all of it, so it has no original (docs/adr/0020-faqs.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import Conflict, NotFound
from agenthub.core.json import digest
from agenthub.core.types import DocumentId, KnowledgeBaseId, TenantId
from agenthub.rag.references import FileRef
from agenthub.repositories.base import NEWEST_FIRST, Page, Repository, all_of, audit_action
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import MAX_PAGE, And, Compare, Delete, Filter, Insert, Order, Query, Table, Update, Write

MAX_SOURCE_BYTES: Final = 1_024
"""A source is a key of an index, whose entries databases bound."""
_OLDEST_FIRST: Final = (Order("id"),)
_LAST_CHARACTER: Final = "\U0010ffff"

DocumentKind = Literal["document", "faq"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a knowledge base, as it is since `generation`. `revision` counts its replacements.

    `sha256` is of the uploaded bytes; `original_name` is the file on the volume.
    `source` is where the client has it, a path or an address: there is one document of a source. `content_key` says what came in and
    how it was to be read (see `content_key`): there is one document of a content. It is None where parts of it were deleted.
    `origin` is what an address said with it (`etag`, `last_modified`), None for what was uploaded.
    Of a FAQ, `title` is the question, `original_name` is empty, it has neither source nor content key, and the last five fields are
    set; no two FAQs of a generation have one `question_key`.
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
    source: str | None = None
    content_key: str | None = None
    origin: Mapping[str, Any] | None = None
    version: int = 1
    kind: DocumentKind = "document"
    question_key: str | None = None
    category: str | None = None
    priority: int | None = None
    answer: str | None = None

    @property
    def original(self) -> FileRef:
        """Where the uploaded bytes are."""
        return FileRef(self.original_name, self.size_bytes, self.sha256)


@dataclass(frozen=True, slots=True)
class PastDocument:
    """A document as it was from `generation` until the commit of `superseded_generation` replaced or removed it.

    `id` is `<document>.<superseded generation>`; `document_version` is the row's version then.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    document_id: DocumentId
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
    superseded_generation: int
    revision: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    document_version: int
    kind: DocumentKind = "document"
    question_key: str | None = None
    category: str | None = None
    priority: int | None = None
    answer: str | None = None
    source: str | None = None
    content_key: str | None = None
    origin: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, document: Document, superseded_generation: int) -> PastDocument:
        """The document as it was before that generation."""
        same = {name: getattr(document, name) for name in _SHARED}
        return cls(
            id=f"{document.id}.{superseded_generation}",
            document_id=document.id,
            superseded_generation=superseded_generation,
            document_version=document.version,
            **same,
        )

    @property
    def document(self) -> Document:
        """The document as it was."""
        return Document(id=self.document_id, version=self.document_version, **{name: getattr(self, name) for name in _SHARED})


@dataclass(frozen=True, slots=True)
class SourceRange:
    """The sources that begin with `prefix` and come after `after`, up to and with `through`; by code point, as everywhere."""

    prefix: str = ""
    after: str | None = None
    through: str | None = None

    @property
    def filter(self) -> Filter:
        """The documents of the range."""
        bounds = [Compare("source", "not_null")]
        if self.prefix:
            bounds += [Compare("source", "ge", self.prefix), Compare("source", "lt", self.prefix + _LAST_CHARACTER)]
        if self.after is not None:
            bounds.append(Compare("source", "gt", self.after))
        if self.through is not None:
            bounds.append(Compare("source", "le", self.through))
        return And(tuple(bounds))


def content_key(
    sha256: str, filename: str | None, title: str | None, metadata: Mapping[str, Any], chunking: Mapping[str, Any] | None
) -> str:
    """What makes two uploads the same: the bytes, and all that decides what becomes of them. 64 hex digits.

    The name counts by its ending, which says how to read the bytes; title and metadata as the client gave them. `chunking` is None
    for the knowledge base's own settings, which never change.
    """
    ending = (filename or "").rpartition(".")[2].lower() if "." in (filename or "") else ""
    said = [sha256, ending, title, sorted(metadata.items()), sorted((chunking or {}).items())]
    return digest(said)


_SHARED: Final = tuple(name for name in Document.__dataclass_fields__ if name not in ("id", "version"))

DOCUMENT_HISTORY: Final = Table.of(
    "document_history",
    PastDocument,
    indexes=[
        ("tenant_id", "knowledge_base_id", "document_id", "id"),
        ("tenant_id", "knowledge_base_id", "superseded_generation", "id"),
    ],
)


def _kept(document: Document, generation: int) -> Write:
    return Insert(DOCUMENT_HISTORY, row_of(PastDocument.of(document, generation)))


class DocumentRepository(Repository[Document]):
    """Documents, always asked for with their knowledge base. Added, replaced and removed by commits of their knowledge base."""

    table = Table.of(
        "documents",
        Document,
        unique=[("knowledge_base_id", "content_key"), ("knowledge_base_id", "source")],
        indexes=[
            ("tenant_id", "knowledge_base_id", "id"),
            ("tenant_id", "knowledge_base_id", "sha256"),
            ("tenant_id", "knowledge_base_id", "question_key"),
        ],
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

    def as_of(self, tenant_id: TenantId, key: str, generation: int) -> Document | None:
        """The document as the commit of that generation left it; None when that is no longer kept."""
        present = self.find(tenant_id, key)
        if present is not None and present.generation == generation:
            return present
        then = And((Compare("document_id", "eq", key), Compare("generation", "eq", generation)))
        rows = self._storage.find(DOCUMENT_HISTORY, tenant_id, Query(then, limit=1))
        return PastDocument(**rows[0]).document if rows else present

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

    def of_contents(self, tenant_id: TenantId, knowledge_base_id: str, keys: Sequence[str]) -> dict[str, Document]:
        """The documents of these contents that there are, by content key; at most 1,000 keys."""
        found = self._with(tenant_id, knowledge_base_id, Compare("content_key", "in", tuple(dict.fromkeys(keys))))
        return {document.content_key: document for document in found if document.content_key}

    def of_sources(self, tenant_id: TenantId, knowledge_base_id: str, sources: Sequence[str]) -> dict[str, Document]:
        """The documents of these sources that there are, by source; at most 1,000 sources."""
        found = self._with(tenant_id, knowledge_base_id, Compare("source", "in", tuple(dict.fromkeys(sources))))
        return {document.source: document for document in found if document.source}

    def with_sources(self, tenant_id: TenantId, knowledge_base_id: str, within: SourceRange) -> Iterator[Document]:
        """The documents whose source is in the range, oldest first."""
        cursor: str | None = None
        while True:
            page = self.page_in(tenant_id, knowledge_base_id, where=within.filter, order=_OLDEST_FIRST, limit=MAX_PAGE - 1, cursor=cursor)
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return

    def _with(self, tenant_id: TenantId, knowledge_base_id: str, which: Compare) -> tuple[Document, ...]:
        if not which.value:
            return ()
        where = And((Compare("knowledge_base_id", "eq", knowledge_base_id), which))
        return self.page(tenant_id, where=where, limit=MAX_PAGE - 1).items

    # --- parts of a knowledge base's commit: each keeps the document as it was in the history ---

    def insertion(self, document: Document) -> Write:
        """The write that adds a document."""
        return Insert(self.table, row_of(document))

    def replacement(self, before: Document, after: Document, *, free_first: bool = False) -> list[Write]:
        """The writes that turn a document as it was read into `after`, which is of the generation that is being made.

        With `free_first` its source and content are given up before, for another document of the same commit; then the version
        grows by two.
        """
        changes = {name: value for name, value in row_of(after).items() if name not in ("id", "tenant_id", "version")}
        key, version = (before.tenant_id, before.id), before.version
        if not free_first:
            return [Update(self.table, *key, changes, version), _kept(before, after.generation)]
        free = Update(self.table, *key, {"source": None, "content_key": None}, version)
        return [free, _kept(before, after.generation), Update(self.table, *key, changes, version + 1)]

    def removal(self, document: Document, generation: int) -> list[Write]:
        """The writes that remove a document as it was read, from the generation that is being made on."""
        return [Delete(self.table, document.tenant_id, document.id, document.version), _kept(document, generation)]

    def recounts(self, tenant_id: TenantId, lost: Mapping[str, int], generation: int, now: datetime) -> list[Write]:
        """The writes that lower the chunk counts of documents by what each lost in the generation that is being made.

        Raises: Conflict when one of them is a FAQ, whose row and chunk say the same.
        """
        writes: list[Write] = []
        for key, document in self.get_many(tenant_id, list(lost)).items():
            if document.kind == "faq":
                raise Conflict(f"a chunk of the FAQ {document.id} is changed with it, at /api/faqs")
            count = document.chunk_count - lost[key]
            # No longer all that came in: the same content may come again.
            partial = replace(document, chunk_count=count, content_key=None)
            after = replace(partial, generation=generation, updated_at=now, version=document.version + 1)
            writes += self.replacement(document, after)
        return writes

    def audited(self, document: Document, verb: str, now: datetime) -> Write:
        """The audit row of a change to a document."""
        action = audit_action(self.resource_kind, verb)
        base_id = document.knowledge_base_id
        return self._operation.audit(document.tenant_id, action, self.resource_kind, document.id, now, knowledge_base_id=base_id)
