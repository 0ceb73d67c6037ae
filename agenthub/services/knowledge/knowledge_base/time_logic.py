"""What the routes of generations answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from agenthub.core.errors import NotFound, NotRetained
from agenthub.core.types import TenantId
from agenthub.repositories.base import Page
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import KnowledgeOperation, Pin
from agenthub.repositories.knowledge.pins import SnapshotRepository
from agenthub.repositories.knowledge.retention import GenerationRepository, Retained, Retention
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources
from agenthub.services.knowledge.knowledge_base.time_schemas import (
    ChangeOut,
    DifferenceOut,
    DifferingDocument,
    GenerationOut,
    SnapshotCreate,
)

_MOST_NAMED: Final = 1000


def list_changes(resources: Resources, base: KnowledgeBase, limit: int, cursor: str | None) -> Page[ChangeOut]:
    """One page of a knowledge base's writes, newest first."""
    records = GenerationRepository(resources.storage)
    retained = Retention(resources.storage).of(base, records.now())
    page = records.page_in(base, limit=limit, cursor=cursor)
    return Page(tuple(_change(record, retained) for record in page.items), page.next_cursor)


def describe_generation(resources: Resources, base: KnowledgeBase, generation: int) -> GenerationOut:
    """One generation.

    Raises: NotFound when there is none of this number; NotRetained when nothing is known of it any more.
    """
    records = GenerationRepository(resources.storage)
    made = records.of_generation(base, generation)
    if not made:
        kind = NotRetained if 1 <= generation < base.generation else NotFound
        raise kind(f"nothing is known of generation {generation}: the newest is {base.generation}")
    retained = Retention(resources.storage).of(base, records.now())
    return GenerationOut(
        generation=generation,
        current=generation == base.generation,
        retained=retained.keeps(generation),
        document_count=made[0].document_count,
        chunk_count=made[0].chunk_count,
        size_bytes=made[0].size_bytes,
        changes=tuple(_change(record, retained) for record in made),
    )


def _change(record: KnowledgeOperation, retained: Retained) -> ChangeOut:
    values: Mapping[str, Any] = asdict(record) | {"retained": retained.keeps(record.generation)}
    return ChangeOut(**{name: values[name] for name in ChangeOut.model_fields})


def difference(resources: Resources, base: KnowledgeBase, first: int, last: int) -> DifferenceOut:
    """What differs between two generations, also from a newer to an older one.

    Raises: NotFound and NotRetained as `History.at`.
    """
    history = History(resources.storage)
    before, after = history.at(base, first), history.at(base, last)
    kinds = _Kinds()
    older, newer = sorted((first, last))
    for change in history.changes(base, older, newer):
        pair = (change.before, change.after)
        kinds.note(*(pair if first <= last else pair[::-1]))
    return DifferenceOut(
        first=first,
        last=last,
        added=kinds.named("added"),
        removed=kinds.named("removed"),
        replaced=kinds.named("replaced"),
        added_count=kinds.counts["added"],
        removed_count=kinds.counts["removed"],
        replaced_count=kinds.counts["replaced"],
        first_document_count=before.document_count,
        last_document_count=after.document_count,
        first_chunk_count=before.chunk_count,
        last_chunk_count=after.chunk_count,
    )


class _Kinds:
    """Differing documents by what became of them, the first 1,000 of each by name."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("added", "removed", "replaced"), 0)
        self._documents: dict[str, list[Document]] = {kind: [] for kind in self.counts}

    def note(self, before: Document | None, after: Document | None) -> None:
        kind = "added" if before is None else "removed" if after is None else "replaced"
        self.counts[kind] += 1
        found = after or before
        if found is not None and len(self._documents[kind]) < _MOST_NAMED:
            self._documents[kind].append(found)

    def named(self, kind: str) -> tuple[DifferingDocument, ...]:
        return tuple(_shown(self._documents[kind]))


def _shown(documents: Iterable[Document]) -> Iterable[DifferingDocument]:
    return (DifferingDocument(id=d.id, title=d.title, sha256=d.sha256, chunk_count=d.chunk_count) for d in documents)


def name_generation(resources: Resources, operation: Operation, tenant_id: TenantId, key: str, body: SnapshotCreate, creator: str) -> Pin:
    """Keep a generation under a name.

    Raises: NotFound and NotRetained as `History.get`; AlreadyExists, field `name`; Conflict when there are too many.
    """
    base = KnowledgeBaseRepository(resources.storage).get(tenant_id, key)
    old = base if body.generation is None else History(resources.storage).at(base, body.generation)
    return SnapshotRepository(resources.storage, operation).name_generation(old, body.name, creator)
