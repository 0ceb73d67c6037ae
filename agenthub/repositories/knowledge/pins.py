"""Named snapshots, which keep their generation for good, and the pins of those who read one for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agenthub.core.errors import AlreadyExists, Conflict, NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.base import Page, Repository, all_of
from agenthub.repositories.knowledge.knowledge_bases import ACTIVE, KnowledgeBase, KnowledgeBaseRepository, name_key
from agenthub.repositories.knowledge.ledger import PINS, Pin
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Compare, DbNow, Delete, DeleteWhere, Insert, Require

MAX_SNAPSHOTS: Final = 100
"""Per knowledge base: each may keep files that nothing else needs."""
READING_SECONDS: Final = 6 * 3600.0
"""How long an export may take."""


class SnapshotRepository(Repository[Pin]):
    """The named snapshots of knowledge bases."""

    table = PINS
    entity = Pin
    resource_kind = "snapshot"

    def get_in(self, base: KnowledgeBase, key: str) -> Pin:
        """The named snapshot of that id.

        Raises: NotFound when it is missing or another knowledge base's.
        """
        pin = self.find(base.tenant_id, key)
        if pin is None or pin.knowledge_base_id != base.id or pin.name is None:
            raise NotFound("no snapshot with this id")
        return pin

    def page_in(self, base: KnowledgeBase, *, limit: int = 50, cursor: str | None = None) -> Page[Pin]:
        """One page of a knowledge base's named snapshots, newest first."""
        where = all_of(Compare("knowledge_base_id", "eq", base.id), Compare("name", "not_null"))
        return self.page(base.tenant_id, where=where, limit=limit, cursor=cursor)

    def name_generation(self, old: KnowledgeBase, name: str, creator: str) -> Pin:
        """Give a generation (that of this row) a name; from now on it is kept until the snapshot is removed.

        Raises: AlreadyExists, field `name`; Conflict when there are 100 already.
        """
        named = all_of(Compare("knowledge_base_id", "eq", old.id), Compare("name", "not_null"))
        if self.count(old.tenant_id, named) >= MAX_SNAPSHOTS:
            raise Conflict(f"a knowledge base has at most {MAX_SNAPSHOTS} snapshots")
        try:
            return self.add(self._pin(old, name, creator), _alive(old))
        except AlreadyExists as error:
            if "name_key" in error.columns:
                raise AlreadyExists(error.table, ["name"], field="name") from error
            raise

    def delete(self, base: KnowledgeBase, key: str) -> None:
        """Remove a named snapshot: its generation is kept as long as any other.

        Raises: NotFound.
        """
        self.remove(base.tenant_id, self.get_in(base, key).id)

    @contextmanager
    def reading(self, old: KnowledgeBase) -> Iterator[None]:
        """Keep a generation while it is read, at most six hours."""
        pin = self._pin(old, None, None)
        row = {**row_of(pin), "expires_at": DbNow(READING_SECONDS)}
        self._storage.commit([Insert(PINS, row), _alive(old)])
        try:
            yield
        finally:
            self._storage.commit([Delete(PINS, old.tenant_id, pin.id, missing_ok=True)])

    def forget_expired(self, tenant_id: TenantId) -> None:
        """Remove the pins of readers that never came back."""
        self._storage.commit([DeleteWhere(PINS, tenant_id, Compare("expires_at", "lt", DbNow()))])

    def pinned(self, old: KnowledgeBase) -> Pin:
        """A pin of a generation (that of this row) without a name, for the commit of a caller who says when it expires."""
        return self._pin(old, None, None)

    def _pin(self, old: KnowledgeBase, name: str | None, creator: str | None) -> Pin:
        pointer = old.pointer
        return Pin(
            id=new_id(),
            tenant_id=old.tenant_id,
            knowledge_base_id=old.id,
            name=name,
            name_key=None if name is None else name_key(name),
            generation=pointer.generation,
            epoch=pointer.epoch,
            manifest_name=pointer.name,
            manifest_sha256=pointer.sha256,
            manifest_length_bytes=pointer.length_bytes,
            document_count=old.document_count,
            chunk_count=old.chunk_count,
            size_bytes=old.size_bytes,
            created_by=creator,
            created_at=self.now(),
            expires_at=None,
        )


def _alive(base: KnowledgeBase) -> Require:
    return Require(KnowledgeBaseRepository.table, base.tenant_id, base.id, ACTIVE)
