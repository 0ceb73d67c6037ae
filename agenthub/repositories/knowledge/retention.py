"""Which old generations of a knowledge base are kept, so that they can be searched, compared, exported and restored.

A generation is kept while fewer than `retained_generations` newer ones exist and it was replaced less than `retained_seconds`
ago; the current one always is, and the one before unless `retained_generations` is 0. Pins keep theirs however old. An erase is
the end of everything before it, pins included: what was erased must not come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agenthub.rag.references import Pointer
from agenthub.repositories.base import Page, Repository, all_of
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.ledger import OPERATIONS, PINS, KnowledgeOperation, Pin
from agenthub.storage.contract import MAX_PAGE, And, Compare, DbNow, Filter, Or, Order, Query, Row, Storage, Table

_NEWEST: Final = (Order("generation", descending=True),)


@dataclass(frozen=True, slots=True)
class Retained:
    """Which generations are kept: `first` to `current`, and those of the pins."""

    first: int
    current: int
    pins: tuple[Pin, ...]

    def keeps(self, generation: int) -> bool:
        """Whether this generation is kept."""
        return self.first <= generation <= self.current or any(pin.generation == generation for pin in self.pins)

    def keeps_any(self, first: int, before: int) -> bool:
        """Whether some generation from `first` up to but not including `before` is kept."""
        recent = max(first, self.first) < min(before, self.current + 1)
        return recent or any(first <= pin.generation < before for pin in self.pins)


class Retention:
    """Asks the records of a knowledge base what is kept."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def of(self, base: KnowledgeBase, now: datetime) -> Retained:
        """What is kept now of a knowledge base whose row says this."""
        erased = self._erased(base)
        first = max(base.generation - base.retained_generations, self._first_by_age(base, now))
        always = base.generation - min(1, base.retained_generations)  # so that the newest change can be undone, where history is kept
        first = max(min(first, always), erased, 1)
        return Retained(first, base.generation, tuple(pin for pin in self.pins(base) if pin.generation >= erased))

    def erased_since(self, base: KnowledgeBase) -> bool:
        """Whether there was an erase after this row of the knowledge base was read."""
        return self._erased(base) > base.generation

    def pins(self, base: KnowledgeBase) -> Iterator[Pin]:
        """The pins that have not expired."""
        alive = Or((Compare("expires_at", "is_null"), Compare("expires_at", "gt", DbNow())))
        where = And((Compare("knowledge_base_id", "eq", base.id), alive))
        return (Pin(**row) for row in every_row(self._storage, PINS, base, where))

    def retained_generations(self, base: KnowledgeBase, now: datetime) -> list[Pointer]:
        """The pointers of all generations that are kept, the current one among them: whatever their manifests list, and
        the manifests themselves, may not be collected.
        """
        retained = self.of(base, now)
        where = And((Compare("knowledge_base_id", "eq", base.id), Compare("generation", "ge", retained.first)))
        rows = every_row(self._storage, OPERATIONS, base, And((where, Compare("generation", "le", base.generation))))
        pointers = [KnowledgeOperation(**row).pointer for row in rows]
        return list(dict.fromkeys([base.pointer, *pointers, *(pin.pointer for pin in retained.pins)]))

    def _first_by_age(self, base: KnowledgeBase, now: datetime) -> int:
        """The oldest generation that was still current `retained_seconds` ago: the one before the first change since."""
        since = Compare("created_at", "gt", now - timedelta(seconds=base.retained_seconds))
        row = self._one(base, since, (Order("created_at"),))
        return base.generation if row is None else int(row["generation"]) - 1

    def _erased(self, base: KnowledgeBase) -> int:
        """The generation of the newest erase; 0 when there was none."""
        row = self._one(base, Compare("kind", "eq", "erase"), _NEWEST)
        return 0 if row is None else int(row["generation"])

    def _one(self, base: KnowledgeBase, where: Filter, order: tuple[Order, ...]) -> Row | None:
        whole = And((Compare("knowledge_base_id", "eq", base.id), where))
        rows = self._storage.find(OPERATIONS, base.tenant_id, Query(whole, order, 1))
        return rows[0] if rows else None


class GenerationRepository(Repository[KnowledgeOperation]):
    """The records of a knowledge base's writes as the list of its generations. Written by commits only."""

    table = OPERATIONS
    entity = KnowledgeOperation

    def page_in(self, base: KnowledgeBase, *, limit: int = 50, cursor: str | None = None) -> Page[KnowledgeOperation]:
        """One page of a knowledge base's writes, newest generation first."""
        where = all_of(Compare("knowledge_base_id", "eq", base.id))
        return self.page(base.tenant_id, where=where, order=_NEWEST, limit=limit, cursor=cursor)

    def of_generation(self, base: KnowledgeBase, generation: int) -> list[KnowledgeOperation]:
        """The writes that made a generation: one, or those that were committed together."""
        where = And((Compare("knowledge_base_id", "eq", base.id), Compare("generation", "eq", generation)))
        return [self.from_row(row) for row in every_row(self._storage, OPERATIONS, base, where)]

    def newest_change(self, base: KnowledgeBase) -> KnowledgeOperation | None:
        """The newest write that changed contents: merging does not, and another model neither."""
        where = And((Compare("knowledge_base_id", "eq", base.id), Compare("kind", "ne", "merge"), Compare("kind", "ne", "reembed")))
        rows = self._storage.find(OPERATIONS, base.tenant_id, Query(where, _NEWEST, 1))
        return self.from_row(rows[0]) if rows else None


def every_row(storage: Storage, table: Table, base: KnowledgeBase, where: Filter) -> Iterator[Row]:
    """All rows of a knowledge base that match, by key, a page at a time."""
    after: tuple[str, ...] | None = None
    while True:
        rows = storage.find(table, base.tenant_id, Query(where, (), MAX_PAGE, after))
        yield from rows
        if len(rows) < MAX_PAGE:
            return
        after = (rows[-1][table.key],)
