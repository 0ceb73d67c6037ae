"""Retention, enforced on rows: what only generations needed that nobody can go back to any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from agenthub.rag.engine import KnowledgeEngine
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY
from agenthub.repositories.knowledge.holding import Held, Holdings
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.ledger import OPERATIONS, TOMBSTONES
from agenthub.repositories.knowledge.retention import every_row
from agenthub.repositories.operations import RETENTION
from agenthub.storage.contract import And, Compare, Delete, DeleteWhere, Row, Storage, Table

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows went: tombstones that hide nothing, past states of documents, and records of writes."""

    tombstones: int
    history: int
    operations: int


class Pruner:
    """Removes rows of one knowledge base after the other."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, slack_seconds: float) -> None:
        """`slack_seconds`: as for `Holdings`."""
        self._storage = storage
        self._holdings = Holdings(storage, engine, slack_seconds)

    def prune(self, base: KnowledgeBase) -> Pruned:
        """Remove what no held generation needs.

        Raises: MissingFile or CorruptFile when a held generation can't be read: then nothing is removed.
        """
        held = self._holdings.of(base, self._storage.now())
        return Pruned(self._tombstones(base, held), self._history(base, held), self._operations(base, held))

    def _tombstones(self, base: KnowledgeBase, held: Held) -> int:
        """A tombstone goes when every segment of every held generation that could show what it hides covers it.

        Only those that were there before the generations were read are looked at: a newer one is needed by what comes.
        """
        own = And((Compare("knowledge_base_id", "eq", base.id), Compare("generation", "le", base.generation)))
        rows = list(every_row(self._storage, TOMBSTONES, base, own))
        unneeded = {g for g in {int(row["generation"]) for row in rows} if not held.needs_burials_of(g)}
        return self._delete(TOMBSTONES, base, [row for row in rows if row["generation"] in unneeded])

    def _history(self, base: KnowledgeBase, held: Held) -> int:
        numbers = sorted({pointer.generation for pointer, _ in held.generations})
        own = And((Compare("knowledge_base_id", "eq", base.id), Compare("superseded_generation", "le", base.generation)))
        rows = every_row(self._storage, DOCUMENT_HISTORY, base, own)
        past = [row for row in rows if not any(row["generation"] <= number < row["superseded_generation"] for number in numbers)]
        return self._delete(DOCUMENT_HISTORY, base, past)

    def _operations(self, base: KnowledgeBase, held: Held) -> int:
        """Records are kept as long as a repeated request may ask for them; erasures always, since they end what came before."""
        oldest = min(pointer.generation for pointer, _ in held.generations)
        before = And(
            (Compare("generation", "lt", oldest), Compare("created_at", "lt", self._storage.now() - RETENTION - timedelta(days=1)))
        )
        where = And((Compare("knowledge_base_id", "eq", base.id), Compare("kind", "ne", "erase"), before))
        count = self._storage.count(OPERATIONS, base.tenant_id, where)
        if count:
            self._storage.commit([DeleteWhere(OPERATIONS, base.tenant_id, where)])
        return count

    def _delete(self, table: Table, base: KnowledgeBase, rows: Sequence[Row]) -> int:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            self._storage.commit([Delete(table, base.tenant_id, row["id"], missing_ok=True) for row in batch])
        return len(rows)
