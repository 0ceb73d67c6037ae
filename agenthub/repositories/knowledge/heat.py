"""How busy each knowledge base is, and the vectors of its most frequent questions: what is worth warming after a start.

One small row a knowledge base, written every few minutes by each process that searched it. No text is kept: a question is the name of its
vector in the embedding cache (a hash) and the vector. An erase clears them, and what was seen before it is never added afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from agenthub.core.errors import AlreadyExists, NotFound, VersionConflict
from agenthub.core.types import EVERY_TENANT, KnowledgeBaseId, TenantId
from agenthub.repositories.base import Repository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Delete, Insert, Order, Query, Table, Update, Write

HALF_LIFE_SECONDS: Final = 86_400.0
"""A search counts half after a day."""
MAX_QUESTIONS: Final = 32
_NAME_BYTES: Final = 32
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Heat:
    """One knowledge base; its id is the key.

    `rank` orders by decayed number of searches: the binary logarithm of what they count now, plus now in half lives. `questions` are
    names of 32 bytes, each with its little-endian float32, made by the model of `signature`; the most frequent first.
    """

    id: KnowledgeBaseId
    tenant_id: TenantId
    rank: float
    signature: str
    dimension: int
    questions: bytes
    cleared_at: datetime | None
    version: int = 1

    @property
    def vectors(self) -> dict[str, bytes]:
        """The questions' vectors by hexadecimal name."""
        size = _NAME_BYTES + 4 * self.dimension
        parts = [self.questions[start : start + size] for start in range(0, len(self.questions) - size + 1, size)]
        return {part[:_NAME_BYTES].hex(): part[_NAME_BYTES:] for part in parts}

    def with_searches(self, base: KnowledgeBase, count: int, vectors: Mapping[str, bytes], now: datetime) -> Heat:
        """After so many more searches. `vectors` go before those that are kept already; of another model none is kept."""
        same = (self.signature, self.dimension) == (base.signature, base.dimension)
        merged = {**vectors, **{name: vector for name, vector in (self.vectors if same else {}).items() if name not in vectors}}
        kept = [(name, vector) for name, vector in merged.items() if len(vector) == 4 * base.dimension][:MAX_QUESTIONS]
        questions = b"".join(bytes.fromhex(name) + vector for name, vector in kept)
        rank = _rank(2 ** (self.rank - _half_lives(now)) + count, now)
        return replace(self, rank=rank, signature=base.signature, dimension=base.dimension, questions=questions)


def _half_lives(moment: datetime) -> float:
    return moment.timestamp() / HALF_LIFE_SECONDS


def _rank(searches: float, now: datetime) -> float:
    return math.log2(searches) + _half_lives(now)


class HeatRepository(Repository[Heat]):
    """The busiest knowledge bases of all organizations."""

    table = Table.of("kb_heat", Heat, indexes=[("rank", "id")])
    entity = Heat

    def busiest(self, limit: int) -> list[Heat]:
        """Those most searched lately, busiest first."""
        rows = self._storage.find(self.table, EVERY_TENANT, Query(order=(Order("rank", descending=True),), limit=limit))
        return [self.from_row(row) for row in rows]

    def add_searches(self, base: KnowledgeBase, count: int, vectors: Mapping[str, bytes], since: datetime) -> None:
        """Count searches, and keep their questions' vectors unless an erase came after `since`, when the first of them was seen.

        Best effort: what loses every race with other processes is dropped.
        """
        for _ in range(_TRIES):
            now = self._storage.now()
            found = self.find(base.tenant_id, base.id)
            before = found or Heat(base.id, base.tenant_id, -math.inf, base.signature, base.dimension, b"", None)
            erased = before.cleared_at is not None and before.cleared_at >= since
            after = before.with_searches(base, count, {} if erased else vectors, now)
            if self._put(found, after):
                return

    def clear(self, base: KnowledgeBase) -> int:
        """Forget all questions of a knowledge base, and all that was seen of them until now; how many rows held some."""
        for _ in range(_TRIES):
            now = self._storage.now()
            found = self.find(base.tenant_id, base.id)
            blank = found or Heat(base.id, base.tenant_id, 0.0, base.signature, base.dimension, b"", None)
            if self._put(found, replace(blank, questions=b"", cleared_at=now)):
                return int(found is not None and bool(found.questions))
        raise VersionConflict("the questions of this knowledge base are being written by others")

    def removal(self, tenant_id: TenantId, key: str) -> Write:
        """The write that forgets a knowledge base, for the commit that deletes it."""
        return Delete(self.table, tenant_id, key, missing_ok=True)

    def _put(self, found: Heat | None, after: Heat) -> bool:
        """Whether this was the next state; False when another process was faster."""
        row = row_of(after)
        changes = {name: row[name] for name in ("rank", "signature", "dimension", "questions", "cleared_at")}
        write: Write = Insert(self.table, row)
        if found is not None:
            write = Update(self.table, found.tenant_id, found.id, changes, found.version)
        try:
            self._commit(after.tenant_id, [write], None, "update", after.id)
        except (AlreadyExists, VersionConflict, NotFound):
            return False
        return True
