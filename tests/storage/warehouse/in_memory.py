"""A warehouse of the tests' own: it keeps its promise, and fails when it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.activity import ACTIVITY_EVENTS, Measured, noted
from agenthub.repositories.operations import AUDIT_EVENTS, SYSTEM, audit_event, row_of
from agenthub.storage.contract import Insert, Question, Row, Storage, Table, Write
from agenthub.storage.warehouse.contract import Batch, Warehouse
from agenthub.storage.warehouse.feed import FEEDS

TABLES = (AUDIT_EVENTS, ACTIVITY_EVENTS)
MADE = (*TABLES, FEEDS)
TENANT = TenantId("tenant")


@dataclass
class InMemoryWarehouse(Warehouse):
    """`before` and `after` run around each batch; what they raise, the caller of `put` gets."""

    backend = "memory"
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    before: Callable[[Batch], None] = lambda _: None
    after: Callable[[Batch], None] = lambda _: None
    repeated: Counter[str] = field(default_factory=Counter)

    def make(self, tables: Sequence[Table]) -> None:
        for table in tables:
            self.rows.setdefault(table.name, {})

    def put(self, batch: Batch) -> None:
        self.before(batch)
        self.batches.append(batch)
        for part in batch.parts:
            shelf = self.rows.setdefault(part.table.name, {})
            for row in part.rows:
                if row[part.table.key] in shelf:
                    self.repeated[part.table.name] += 1
                shelf.setdefault(row[part.table.key], row)
        self.after(batch)

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        return list(question.memory(lambda name: list(self.rows.get(name, {}).values()), parameters))

    def close(self) -> None:
        return None

    def ids(self) -> set[str]:
        return {key for shelf in self.rows.values() for key in shelf}


def written(storage: Storage, count: int, *, details: str = "") -> set[str]:
    """Commit so many audit events, and an activity event with each; the ids of all of them."""
    made: set[str] = set()
    for number in range(count):
        event = audit_event(SYSTEM, TENANT, "thing.create", "thing", new_id(), storage.now(), "ok", {"text": details})
        activity = noted(TENANT, SYSTEM, event.at, "usage", "thing.use", measured=Measured(quantity=number))
        writes: list[Write] = [Insert(AUDIT_EVENTS, row_of(event)), activity]
        rows = storage.commit(writes)
        made |= {str(row["id"]) for row in rows if row is not None}
    return made
