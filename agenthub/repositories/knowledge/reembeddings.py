"""Re-embeddings: moving a knowledge base to another model, as rows. Their shadow is repositories/knowledge/shadows.py (ADR 26)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from agenthub.core.errors import Conflict, NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import KnowledgeBaseId, TenantId
from agenthub.rag.manifest import SegmentEntry
from agenthub.rag.references import FileRef
from agenthub.repositories.base import Repository, all_of
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.retention import every_row
from agenthub.storage.contract import Compare, Delete, Storage, Table, Update, Write

ReembeddingState = Literal["building", "ready", "switched", "finished", "rolled_back", "cancelled"]
OPEN_STATES: Final = ("building", "ready")
KEPT_SECONDS: Final = 7 * 86_400.0
"""How long the vectors of the model that was left are kept for going back, unless somebody finishes earlier."""


@dataclass(frozen=True, slots=True)
class Reembedding:
    """One move of a knowledge base from the `former_…` model to another.

    `building`: its job works on the shadow; `ready`: the shadow was complete and waits to be switched to; `switched`: done, and the
    vectors of the former model are kept under the pin; `finished`: they are given up; `rolled_back`: another one went back to the
    former model, which names this one in `rolls_back_id`. A restore of a generation in another model leaves one that is `finished` and
    had no job. `open_key` is the knowledge base's id until it is switched or cancelled, so
    that there is one at a time. `switched_generation` is the first one in the new model. The version changes whenever mirrors may
    have gone, so that a switch never lists one of those.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    open_key: str | None
    state: ReembeddingState
    job_id: str
    embedding_model: str
    signature: str
    dimension: int
    former_model: str
    former_signature: str
    former_dimension: int
    auto_switch: bool
    chunks_per_second: int | None
    switched_generation: int | None
    pin_id: str | None
    rolls_back_id: str | None
    embedded_count: int
    reused_count: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True)
class Mirror:
    """Rows of a live segment in the new model: a segment of its own, which no manifest lists before the switch.

    It stands for `row_count` rows of the segment from `first_row` on, as the manifest lists it with that `restored_generation`. Rows
    hidden in `covers_generation` are left out; where all are, there is no segment and `segment_id` is empty.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    reembedding_id: str
    source_id: str
    restored_generation: int
    first_row: int
    row_count: int
    segment_id: str
    header_name: str
    header_length_bytes: int
    header_sha256: str
    chunk_count: int
    size_bytes: int
    covers_generation: int

    @property
    def entry(self) -> SegmentEntry:
        """The segment as a manifest would list it."""
        header = FileRef(self.header_name, self.header_length_bytes, self.header_sha256)
        return SegmentEntry(self.segment_id, header, self.chunk_count, self.size_bytes, self.covers_generation, self.restored_generation)


MIRRORS: Final = Table.of("kb_mirrors", Mirror, indexes=[("tenant_id", "knowledge_base_id", "id"), ("tenant_id", "reembedding_id", "id")])


class ReembeddingRepository(Repository[Reembedding]):
    """The re-embeddings of knowledge bases. They are kept: they say which generation was in which model."""

    table = Table.of(
        "kb_reembeddings",
        Reembedding,
        unique=[("tenant_id", "open_key")],
        indexes=[("tenant_id", "knowledge_base_id", "id"), ("tenant_id", "knowledge_base_id", "switched_generation")],
    )
    entity = Reembedding
    resource_kind = "reembedding"

    def newest(self, base: KnowledgeBase) -> Reembedding:
        """The newest one of a knowledge base.

        Raises: NotFound when there was none.
        """
        page = self.page(base.tenant_id, where=Compare("knowledge_base_id", "eq", base.id), limit=1)
        if not page.items:
            raise NotFound("this knowledge base was never re-embedded")
        return page.items[0]

    def newest_in(self, base: KnowledgeBase, *states: ReembeddingState) -> Reembedding:
        """The newest one.

        Raises: NotFound when there was none; Conflict when it is in another state.
        """
        found = self.newest(base)
        if found.state not in states:
            raise Conflict(f"the newest re-embedding of this knowledge base is {found.state}")
        return found

    def is_open(self, base: KnowledgeBase) -> bool:
        """Whether one is being built, or ready."""
        return self._find_one(base.tenant_id, open_key=base.id) is not None

    def models_of(self, base: KnowledgeBase) -> list[str]:
        """The models that vectors of this knowledge base are, or were, made by; none where they come from the client."""
        found = {str(base.embedding_model)} if base.embedding_model is not None else set()
        for row in every_row(self._storage, self.table, base, Compare("knowledge_base_id", "eq", base.id)):
            found |= {row["embedding_model"], row["former_model"]}
        return sorted(found)

    def row_at(self, row: KnowledgeBase) -> KnowledgeBase:
        """A knowledge base's row of an old generation with the model of that time."""
        later = all_of(Compare("knowledge_base_id", "eq", row.id), Compare("switched_generation", "gt", row.generation))
        found = [self.from_row(one) for one in every_row(self._storage, self.table, row, later)]
        if not found:
            return row
        first = min(found, key=lambda one: one.switched_generation or 0)
        return replace(row, embedding_model=first.former_model, signature=first.former_signature, dimension=first.former_dimension)


def drafted(base: KnowledgeBase, *, moved_to: KnowledgeBase, state: ReembeddingState, now: datetime, created_by: str) -> Reembedding:
    """A re-embedding of a knowledge base into the model of that row, before anything was done."""
    return Reembedding(
        id=new_id(),
        tenant_id=base.tenant_id,
        knowledge_base_id=KnowledgeBaseId(base.id),
        open_key=base.id if state in OPEN_STATES else None,
        state=state,
        job_id="",
        embedding_model=str(moved_to.embedding_model),
        signature=moved_to.signature,
        dimension=moved_to.dimension,
        former_model=str(base.embedding_model),
        former_signature=base.signature,
        former_dimension=base.dimension,
        auto_switch=False,
        chunks_per_second=None,
        switched_generation=None,
        pin_id=None,
        rolls_back_id=None,
        embedded_count=0,
        reused_count=0,
        created_by=created_by,
        created_at=now,
        updated_at=now,
    )


def moved(base: KnowledgeBase, row: Reembedding) -> KnowledgeBase:
    """The knowledge base's row as it would be in the other model."""
    return replace(base, embedding_model=row.embedding_model, signature=row.signature, dimension=row.dimension)


def mirroring(entry: SegmentEntry, mirrors: Sequence[Mirror]) -> list[Mirror]:
    """What mirrors a segment as a manifest lists it, in its order: a restore makes other rows of it visible."""
    mine = [one for one in mirrors if (one.source_id, one.restored_generation) == (entry.id, entry.restored_generation)]
    return sorted(mine, key=lambda one: one.first_row)


def mirrors_of(storage: Storage, base: KnowledgeBase, reembedding_id: str | None = None) -> list[Mirror]:
    """The mirrors of a re-embedding, or of all those of a knowledge base: files that no manifest lists and nobody may collect."""
    mine = None if reembedding_id is None else Compare("reembedding_id", "eq", reembedding_id)
    where = all_of(Compare("knowledge_base_id", "eq", base.id), mine)
    return [Mirror(**row) for row in every_row(storage, MIRRORS, base, where)]


def drop_mirrors(storage: Storage, base: KnowledgeBase, segment_ids: Collection[str]) -> int:
    """Take segments out of shadows, for good: no switch that was under way comes to list them. How many there were."""
    doomed = [one for one in mirrors_of(storage, base) if one.segment_id in segment_ids]
    if not doomed:
        return 0
    moved = {"updated_at": storage.now()}  # the version changes with it, which a switch asks for
    owners = sorted({one.reembedding_id for one in doomed})
    writes: list[Write] = [Update(ReembeddingRepository.table, base.tenant_id, key, moved) for key in owners]
    writes += [Delete(MIRRORS, base.tenant_id, one.id, missing_ok=True) for one in doomed]
    storage.commit(writes)
    return len(doomed)
