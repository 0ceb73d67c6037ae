"""Reading a knowledge base: the row names a generation, the engine opens it, tombstones complete it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from agenthub.core.errors import Conflict, MissingFile, VolumeUnavailable
from agenthub.core.types import TenantId
from agenthub.rag.engine import KnowledgeEngine, Tombstone
from agenthub.rag.searcher import Searcher
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import TOMBSTONES
from agenthub.storage.contract import MAX_PAGE, And, Compare, Order, Query, Row, Storage

_TRIES: Final = 3
_NEGATIVE_CACHE_SECONDS: Final = 5.5
"""How long a mounted bucket may go on saying that a file which another host just wrote isn't there (gcsfuse's default is 5 s)."""


class Snapshots:
    """Opens searchers over committed generations: what this process or any other acknowledged is in the next one opened."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine) -> None:
        self._storage = storage
        self._engine = engine
        self._bases = KnowledgeBaseRepository(storage)

    def current(self, tenant_id: TenantId, knowledge_base_id: str, min_generation: int, seen: KnowledgeBase | None = None) -> KnowledgeBase:
        """The knowledge base as it is now, or as this request has `seen` it.

        Raises: NotFound; Conflict, field `min_generation`, when that generation was not committed yet.
        """
        base = seen or self._bases.get(tenant_id, knowledge_base_id)
        if base.generation < min_generation:
            raise Conflict(f"the newest generation is {base.generation}", field="min_generation")
        return base

    def open(
        self, tenant_id: TenantId, knowledge_base_id: str, *, min_generation: int = 0, seen: KnowledgeBase | None = None
    ) -> tuple[KnowledgeBase, Searcher]:
        """The knowledge base as it is now, or as this request has `seen` it, and a searcher over that generation.

        Raises: NotFound; Conflict, field `min_generation`, when that generation was not committed yet;
        VolumeUnavailable when its files can't be read, also after asking for newer ones.
        """
        failed_generation = -1
        for attempt in range(_TRIES):
            base = self.current(tenant_id, knowledge_base_id, min_generation, seen if attempt == 0 else None)
            try:
                return base, self.at(base)
            except VolumeUnavailable:
                if attempt == _TRIES - 1:
                    raise
                if base.generation == failed_generation and not self._engine.volume.mapped:  # a local disk has no such cache
                    time.sleep(_NEGATIVE_CACHE_SECONDS)
                failed_generation = base.generation
        raise AssertionError("the last try returns or raises")

    def open_at(self, tenant_id: TenantId, knowledge_base_id: str, generation: int | None) -> tuple[KnowledgeBase, Searcher]:
        """The knowledge base as it was in that generation (None: as it is now), and a searcher over it.

        Raises: NotFound when there is no such generation; NotRetained when it is no longer kept; otherwise as `open`.
        """
        if generation is None:
            return self.open(tenant_id, knowledge_base_id)
        old = History(self._storage).get(tenant_id, knowledge_base_id, generation)
        try:
            return old, self.at(old)
        except MissingFile:
            History(self._storage).get(tenant_id, knowledge_base_id, generation)  # raises if it was let go meanwhile
            raise

    def at(self, base: KnowledgeBase) -> Searcher:
        """A searcher over exactly the generation this row names.

        Raises: VolumeUnavailable when its files can't be read; CorruptFile when they are not what was committed.
        """
        return self._engine.searcher(base.id, base.pointer, lambda: self.tombstones(base))

    def tombstones(self, base: KnowledgeBase) -> Sequence[Tombstone]:
        """All tombstones up to the row's generation: they were committed with it, so this is one consistent snapshot."""
        found: list[Tombstone] = []
        where = And((Compare("knowledge_base_id", "eq", base.id), Compare("generation", "le", base.generation)))
        order = (Order("generation"),)
        after: tuple[str | int, ...] | None = None
        while True:
            rows = self._storage.find(TOMBSTONES, base.tenant_id, Query(where, order, MAX_PAGE, after))
            found += [_tombstone(row) for row in rows]
            if len(rows) < MAX_PAGE:
                return found
            after = (rows[-1]["generation"], rows[-1]["id"])


def _tombstone(row: Row) -> Tombstone:
    return Tombstone(row["kind"], row["target_id"], row["generation"])
