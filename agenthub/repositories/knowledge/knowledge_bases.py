"""Knowledge bases: a name, a pinned model, and the one mutable pointer to the current generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import NotFound
from agenthub.core.types import KnowledgeBaseId, TenantId, TenantScope
from agenthub.rag.references import Pointer
from agenthub.repositories.base import NEWEST_FIRST, Page, Repository, all_of
from agenthub.repositories.knowledge.ledger import OPERATIONS, ChangeKind, KnowledgeOperation
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import ALL, Compare, Filter, Insert, Order, Row, Table, Update, Write

State = Literal["active", "importing", "deleted"]
ACTIVE: Final[Filter] = Compare("state", "eq", "active")
RETAINED_GENERATIONS: Final = 1000
RETAINED_SECONDS: Final = 7 * 24 * 3600
"""How many old generations can be gone back to, and for how long after they were replaced, where nothing else was chosen."""


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """One knowledge base.

    `generation`, `epoch`, `manifest_*` and `operation_id` name the current generation and move only by compare-and-set
    (design/KNOWLEDGE_STORE.md). `embedding_model` is None where vectors come from the client. `name_key` is the casefolded
    name, unique in the tenant, and None once deleted so that the name is free again; the id is never used twice. Nobody
    finds one that is `importing`. `retained_*` say which old generations are kept (repositories/knowledge/retention.py).
    Until `held_until`, by the database's clock, only a switch to another model commits (repositories/knowledge/switching.py).
    """

    id: KnowledgeBaseId
    tenant_id: TenantId
    name: str
    name_key: str | None
    description: str
    state: State
    embedding_model: str | None
    signature: str
    dimension: int
    language: str
    chunking: Mapping[str, Any]
    generation: int
    epoch: int
    manifest_name: str
    manifest_sha256: str
    manifest_length_bytes: int
    operation_id: str
    document_count: int
    chunk_count: int
    size_bytes: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    retained_generations: int = RETAINED_GENERATIONS
    retained_seconds: int = RETAINED_SECONDS
    held_until: datetime | None = None
    version: int = 1

    @property
    def pointer(self) -> Pointer:
        """Which manifest is current."""
        return Pointer(self.generation, self.epoch, self.manifest_name, self.manifest_sha256, self.manifest_length_bytes)

    def pointing_to(self, pointer: Pointer, operation_id: str, now: datetime) -> KnowledgeBase:
        """This knowledge base after a commit."""
        return replace(
            self,
            generation=pointer.generation,
            epoch=pointer.epoch,
            manifest_name=pointer.name,
            manifest_sha256=pointer.sha256,
            manifest_length_bytes=pointer.length_bytes,
            operation_id=operation_id,
            updated_at=now,
            version=self.version + 1,
        )


def operation_record(
    after: KnowledgeBase,
    operation: Operation,
    kind: ChangeKind,
    now: datetime,
    *,
    documents_delta: int = 0,
    chunks_delta: int = 0,
    details: Mapping[str, Any] | None = None,
) -> KnowledgeOperation:
    """The record of the write that led to the knowledge base as it is `after`."""
    return KnowledgeOperation(
        id=f"{after.id}.{after.operation_id}",
        tenant_id=after.tenant_id,
        knowledge_base_id=after.id,
        operation_id=after.operation_id,
        payload_sha256=operation.payload_sha256,
        generation=after.generation,
        kind=kind,
        actor_kind=operation.actor.kind,
        actor_id=operation.actor.id,
        epoch=after.epoch,
        manifest_name=after.manifest_name,
        manifest_sha256=after.manifest_sha256,
        manifest_length_bytes=after.manifest_length_bytes,
        document_count=after.document_count,
        chunk_count=after.chunk_count,
        size_bytes=after.size_bytes,
        documents_delta=documents_delta,
        chunks_delta=chunks_delta,
        details=details or {},
        created_at=now,
    )


def name_key(name: str) -> str:
    """What makes two names of one tenant the same: case and outer white space don't."""
    return " ".join(name.split()).casefold()


class KnowledgeBaseRepository(Repository[KnowledgeBase]):
    """Knowledge bases that are not deleted. The pointer is moved by repositories/knowledge/commits.py only."""

    table = Table.of(
        "knowledge_bases",
        KnowledgeBase,
        unique=[("tenant_id", "name_key")],
        indexes=[("tenant_id", "state", "id"), ("tenant_id", "state", "name_key", "id")],
    )
    entity = KnowledgeBase
    resource_kind = "knowledge_base"

    def find(self, tenant_id: TenantScope, key: str) -> KnowledgeBase | None:
        """The knowledge base of that id, or None when it is missing, deleted or another tenant's."""
        found = Repository.find(self, tenant_id, key)
        return found if found and found.state == "active" else None

    def foreseen(self, row: Row) -> KnowledgeBase | None:
        """As `find`."""
        base = self.from_row(row)
        return base if base.state == "active" else None

    def get_many(self, tenant_id: TenantScope, keys: Sequence[str]) -> dict[str, KnowledgeBase]:
        """Those that exist and are not deleted, by id."""
        found = Repository.get_many(self, tenant_id, keys)
        return {key: base for key, base in found.items() if base.state == "active"}

    def page(
        self,
        tenant_id: TenantScope,
        *,
        where: Filter = ALL,
        order: tuple[Order, ...] = NEWEST_FIRST,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[KnowledgeBase]:
        """One page of those that are not deleted."""
        return Repository.page(self, tenant_id, where=all_of(ACTIVE, where), order=order, limit=limit, cursor=cursor)

    def create(self, base: KnowledgeBase) -> KnowledgeBase:
        """Add a knowledge base together with the record of its first generation.

        Raises: AlreadyExists when its name is taken.
        """
        record = operation_record(base, self._operation, "create", base.created_at)
        return self.add(base, Insert(OPERATIONS, row_of(record)))

    def retire(self, tenant_id: TenantId, key: str, *extra: Write) -> None:
        """Delete the knowledge base: from this commit on nobody finds it and no commit to it succeeds.

        Raises: NotFound when it is missing or was deleted before.
        """
        self.get(tenant_id, key)
        changes = {"state": "deleted", "name_key": None, "updated_at": self._storage.now()}
        write = Update(self.table, tenant_id, key, changes, None, ALL)
        self._commit(tenant_id, [write, *extra], None, "delete", key)

    def insertion(self, base: KnowledgeBase) -> Insert:
        """The write that adds a knowledge base, for a commit that does more."""
        return Insert(self.table, row_of(base))

    def must_exist(self, tenant_id: TenantId, ids: Sequence[str], field: str) -> None:
        """Check references to knowledge bases at the moment they are made.

        Raises: NotFound, naming `field[i]`, for the first id that is not a live knowledge base of this tenant.
        """
        known = self.get_many(tenant_id, list(dict.fromkeys(ids))) if ids else {}
        for index, key in enumerate(ids):
            if key not in known:
                raise NotFound("no knowledge base with this id", field=f"{field}[{index}]")
