"""A knowledge base as it was: its row, its documents, and what changed between two generations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Final

from agenthub.core.errors import NotFound, NotRetained
from agenthub.core.types import TenantId
from agenthub.repositories.base import NEWEST_FIRST, Page
from agenthub.repositories.cursors import decode_cursor, encode_cursor
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, Document, DocumentRepository, PastDocument
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import OPERATIONS, KnowledgeOperation, Pin
from agenthub.repositories.knowledge.reembeddings import ReembeddingRepository
from agenthub.repositories.knowledge.retention import GenerationRepository, Retention, every_row
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import ALL, And, Compare, Filter, Order, Query, Storage

_PAST_NEWEST: Final = (Order("document_id", descending=True),)


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """A document in two generations; None where it was not there."""

    before: Document | None
    after: Document | None

    @property
    def same_content(self) -> bool:
        """Whether both are there and nothing that anyone can see of them differs."""
        return self.before is not None and self.after is not None and _content(self.before) == _content(self.after)


class History:
    """Reads old generations of knowledge bases."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._documents = DocumentRepository(storage)
        self._generations = GenerationRepository(storage)
        self._reembeddings = ReembeddingRepository(storage)

    def get(self, tenant_id: TenantId, knowledge_base_id: str, generation: int) -> KnowledgeBase:
        """The knowledge base's row as it was in that generation.

        Raises: NotFound when there is no such knowledge base or generation; NotRetained when it is no longer kept.
        """
        return self.at(KnowledgeBaseRepository(self._storage).get(tenant_id, knowledge_base_id), generation)

    def at(self, base: KnowledgeBase, generation: int) -> KnowledgeBase:
        """This row as it was in that generation, with the model of that time; name and settings are those of now.

        Raises: as `get`.
        """
        if generation == base.generation:
            return base
        if not 1 <= generation < base.generation:
            raise NotFound(f"there is no generation {generation}: the newest is {base.generation}", field="generation")
        retained = Retention(self._storage).of(base, self._storage.now())
        record: KnowledgeOperation | Pin | None = next((pin for pin in retained.pins if pin.generation == generation), None)
        made = self._generations.of_generation(base, generation) if retained.keeps(generation) else []
        record = made[0] if made else record
        if record is None:
            raise NotRetained(f"generation {generation} is no longer kept; the oldest is {retained.first}", field="generation")
        return self._reembeddings.row_at(_row_at(base, record))

    def documents(self, base: KnowledgeBase, *, where: Filter = ALL, limit: int = 50, cursor: str | None = None) -> Page[Document]:
        """One page of the documents in the generation that this row names, newest first."""
        after = decode_cursor(DocumentRepository.table, NEWEST_FIRST, cursor) if cursor else None
        mine, generation = Compare("knowledge_base_id", "eq", base.id), base.generation
        # What is live is read first: a document that a commit moves meanwhile is then seen twice, not missed.
        live = And((mine, Compare("generation", "le", generation), where))
        past = And((mine, Compare("generation", "le", generation), Compare("superseded_generation", "gt", generation), where))
        now = self._storage.find(DocumentRepository.table, base.tenant_id, Query(live, NEWEST_FIRST, limit + 1, after))
        past_after = (after[0], "") if after else None
        then = self._storage.find(DOCUMENT_HISTORY, base.tenant_id, Query(past, _PAST_NEWEST, limit + 1, past_after))
        found = _newest_first([DocumentRepository.from_row(row) for row in now], [PastDocument(**row).document for row in then])
        items = tuple(islice(found, limit + 1))
        more = len(items) > limit
        following = encode_cursor(DocumentRepository.table, NEWEST_FIRST, row_of(items[limit - 1])) if more else None
        return Page(items[:limit], following)

    def every_document(self, base: KnowledgeBase) -> Iterator[Document]:
        """All documents in the generation that this row names, newest first."""
        cursor: str | None = None
        while True:
            page = self.documents(base, limit=500, cursor=cursor)
            yield from page.items
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    def changes(self, base: KnowledgeBase, first: int, last: int) -> Iterator[DocumentChange]:
        """The documents that differ between two generations, `first` being the older one.

        Content that was replaced and brought back is not a change.
        """
        mine = Compare("knowledge_base_id", "eq", base.id)
        made = And((Compare("generation", "gt", first), Compare("generation", "le", last)))
        after = {document.id: document for document in self._live(base, And((mine, made)))}
        still_there = Compare("superseded_generation", "gt", last)
        after |= {past.document_id: past.document for past in self._past(base, And((mine, made, still_there)))}
        ended = And((Compare("superseded_generation", "gt", first), Compare("superseded_generation", "le", last)))
        was_there = And((mine, Compare("generation", "le", first), ended))
        before = {past.document_id: past.document for past in self._past(base, was_there)}
        for key in sorted({*before, *after}):
            change = DocumentChange(before.get(key), after.get(key))
            if not change.same_content:
                yield change

    def touched_at_most(self, base: KnowledgeBase, first: int, most: int) -> bool:
        """Whether generations after `first` touched at most so many documents, for sure; cheaper than `touched`."""
        mine = Compare("knowledge_base_id", "eq", base.id)
        live = self._storage.count(DocumentRepository.table, base.tenant_id, And((mine, Compare("generation", "gt", first))))
        ended = self._storage.count(DOCUMENT_HISTORY, base.tenant_id, And((mine, Compare("superseded_generation", "gt", first))))
        return live + ended <= most

    def touched(self, base: KnowledgeBase, first: int) -> dict[int, set[str]]:
        """The documents that each generation after `first` added, replaced or deleted, by generation."""
        found: dict[int, set[str]] = {}
        mine = Compare("knowledge_base_id", "eq", base.id)
        for document in self._live(base, And((mine, Compare("generation", "gt", first)))):
            found.setdefault(document.generation, set()).add(document.id)
        for past in self._past(base, And((mine, Compare("superseded_generation", "gt", first)))):
            for generation in (past.document.generation, past.superseded_generation):
                if generation > first:
                    found.setdefault(generation, set()).add(past.document_id)
        return found

    def restored(self, base: KnowledgeBase, first: int) -> dict[int, int]:
        """Which of the generations after `first` have the contents of which earlier one, because they restored it."""
        mine = (Compare("knowledge_base_id", "eq", base.id), Compare("generation", "gt", first), Compare("kind", "eq", "restore"))
        rows = every_row(self._storage, OPERATIONS, base, And(mine))
        return {int(row["generation"]): int(row["details"]["restored_generation"]) for row in rows}

    def _live(self, base: KnowledgeBase, where: Filter) -> Iterator[Document]:
        return (DocumentRepository.from_row(row) for row in every_row(self._storage, DocumentRepository.table, base, where))

    def _past(self, base: KnowledgeBase, where: Filter) -> Iterator[PastDocument]:
        return (PastDocument(**row) for row in every_row(self._storage, DOCUMENT_HISTORY, base, where))


def _newest_first(now: list[Document], then: list[Document]) -> Iterator[Document]:
    seen = ""
    for document in merge(now, then, key=attrgetter("id"), reverse=True):
        if document.id != seen:
            yield document
        seen = document.id


def _row_at(base: KnowledgeBase, record: KnowledgeOperation | Pin) -> KnowledgeBase:
    return replace(
        base.pointing_to(record.pointer, base.operation_id, base.updated_at),
        document_count=record.document_count,
        chunk_count=record.chunk_count,
        size_bytes=record.size_bytes,
        version=base.version,
    )


def _content(document: Document) -> tuple[object, ...]:
    return (
        document.title,
        document.filename,
        document.media_type,
        document.sha256,
        document.original_name,
        document.chunk_count,
        document.metadata,
    )
