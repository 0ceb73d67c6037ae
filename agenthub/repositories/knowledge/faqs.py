"""Questions with answers: documents of a kind of their own, in the same segments, generations and bundles as all others."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import NotFound
from agenthub.core.ids import new_id
from agenthub.core.json import canonical
from agenthub.core.types import DocumentId, TenantId
from agenthub.rag.chunks import Chunk
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.storage.contract import MAX_PAGE, And, Compare, Query, Write

MEDIA_TYPE: Final = "application/vnd.agenthub.faq+json"
MAX_QUESTION: Final = 1_000
MAX_ANSWER: Final = 8_000
MAX_CATEGORY: Final = 100
MAX_PRIORITY: Final = 1_000
QUESTION_KEY: Final = "question_key"
"""The field of a FAQ's chunk by which a search finds the very same question."""


def question_key(question: str) -> str:
    """What makes two questions the same: 32 hex digits of their words; case, punctuation, width and white space don't count.

    Signs that tell things apart do: C, C++ and C# are three. A question of nothing but punctuation is itself.
    """
    folded = unicodedata.normalize("NFKC", question).casefold()
    words = " ".join("".join(c if _tells(c) else " " for c in folded).split())
    return hashlib.sha256((words or folded.strip()).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _tells(character: str) -> bool:
    return character.isalnum() or character in "#%&@" or unicodedata.category(character)[0] in "MS"


@dataclass(frozen=True, slots=True)
class FaqText:
    """What a FAQ says. A higher `priority` goes first where several answer the same question."""

    question: str
    answer: str
    category: str | None
    priority: int
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, document: Document) -> FaqText:
        """The FAQ that a document is."""
        return cls(document.title, document.answer or "", document.category, document.priority or 0, document.metadata)

    @property
    def key(self) -> str:
        """Its question's key."""
        return question_key(self.question)

    def encoded(self) -> bytes:
        """The bytes that stand for it where a document has its original: canonical JSON."""
        said = {name: getattr(self, name) for name in ("question", "answer", "category", "priority")}
        return canonical({**said, "metadata": dict(self.metadata)})

    def columns(self) -> dict[str, Any]:
        """The columns that only FAQs use."""
        return {
            "kind": "faq",
            "question_key": self.key,
            "category": self.category,
            "priority": self.priority,
            "answer": self.answer,
        }

    def chunk(self, document_id: str) -> Chunk:
        """Its one chunk: the answer is the text, found by the question too. What marks it wins over the client's metadata."""
        marks = {
            "kind": "faq",
            "question": self.question,
            QUESTION_KEY: self.key,
            "category": self.category,
            "priority": self.priority,
            "title": self.question,
            "position": 0,
            "start": 0,
            "end": len(self.answer),
        }
        return Chunk(new_id(), document_id, self.answer, {**self.metadata, **marks}, self.question)


def faq_document(base: KnowledgeBase, faq: FaqText, creator: str, now: datetime) -> Document:
    """A new document that is this FAQ; its generation is set by the commit."""
    data = faq.encoded()
    return Document(
        id=DocumentId(new_id()),
        tenant_id=base.tenant_id,
        knowledge_base_id=base.id,
        title=faq.question,
        filename=None,
        media_type=MEDIA_TYPE,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        original_name="",
        language=None,
        page_count=None,
        character_count=len(faq.question) + 1 + len(faq.answer),
        chunk_count=1,
        metadata=dict(faq.metadata),
        generation=0,
        revision=1,
        created_by=creator,
        created_at=now,
        updated_at=now,
        **faq.columns(),
    )


class FaqRepository(DocumentRepository):
    """The documents that are FAQs."""

    resource_kind = "faq"

    def get_faq(self, tenant_id: TenantId, key: str) -> Document:
        """The FAQ of that id.

        Raises: NotFound when it is missing, no FAQ, or another tenant's.
        """
        document = self.find(tenant_id, key)
        if document is None or document.kind != "faq":
            raise NotFound("no FAQ with this id")
        return document

    def written(self, pairs: Sequence[tuple[Document | None, Document]], now: datetime) -> list[Write]:
        """The writes that put FAQs in place of others (None: of nothing), with the audit row: of one FAQ, or of an import."""
        writes: list[Write] = []
        for before, after in pairs:
            writes += [self.insertion(after)] if before is None else self.replacement(before, after)
        if len(pairs) == 1:
            return [*writes, self.audited(pairs[0][1], "update" if pairs[0][0] else "create", now)]
        one = pairs[0][1]
        counts = {"count": len(pairs), "replaced": sum(before is not None for before, _ in pairs)}
        audit = self._operation.audit(one.tenant_id, "faq.import", "knowledge_base", one.knowledge_base_id, now, **counts)
        return [*writes, audit]

    def asking(self, tenant_id: TenantId, knowledge_base_id: str, keys: Sequence[str]) -> dict[str, Document]:
        """Those of a knowledge base's FAQs that have one of these question keys, by key."""
        found: dict[str, Document] = {}
        for start in range(0, len(keys), MAX_PAGE):
            asked = Compare("question_key", "in", tuple(keys[start : start + MAX_PAGE]))
            where = And((Compare("knowledge_base_id", "eq", knowledge_base_id), asked))
            rows = self._storage.find(self.table, tenant_id, Query(where, (), MAX_PAGE))
            found |= {row["question_key"]: self.from_row(row) for row in rows}
        return found
