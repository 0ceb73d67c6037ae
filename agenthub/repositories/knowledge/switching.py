"""Switching to a shadow: one compare-and-set that moves the generation and the model together (ADR 26)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

from agenthub.core.errors import AgentHubError, GenerationConflict
from agenthub.core.failpoints import failpoint
from agenthub.core.types import TenantId
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.repositories.knowledge.commits import Effect, KnowledgeCommits, PinnedModel
from agenthub.repositories.knowledge.job_queue import JobQueue, Leased, held
from agenthub.repositories.knowledge.knowledge_bases import ACTIVE, KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import PINS
from agenthub.repositories.knowledge.pins import SnapshotRepository
from agenthub.repositories.knowledge.reembeddings import KEPT_SECONDS, MIRRORS, Reembedding, ReembeddingRepository
from agenthub.repositories.knowledge.shadows import BUILDING, Over, Shadow, gaps_of, shadow_of
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import Compare, DbNow, Delete, DeleteWhere, Insert, Storage, Update, Write

HOLD_SECONDS: Final = 10.0
"""How long writers wait at most for a runner that died in the midst of a switch."""
_COMMITS: Final = 4
"""Where a commit takes seconds, a switch takes about so many of them longer."""
_ROUNDS: Final = 4


class Behind(GenerationConflict):
    """More was written than a switch can catch up with by the way."""


class Switch:
    """Makes a complete shadow the next generation."""

    def __init__(
        self, queue: JobQueue, storage: Storage, engine: KnowledgeEngine, leased: Leased, row: Reembedding, shadow: Shadow
    ) -> None:
        self._storage = storage
        self._leased = leased
        self._row = row
        self._shadow = shadow
        self._engine = engine
        self._queue = queue
        self._operation = Operation(leased.job.actor)
        self._rows = ReembeddingRepository(storage)
        self._version = row.version

    def publish(self, over: Over) -> None:
        """Move the knowledge base to the new model: all that was committed before is in the new generation.

        The last rows are mirrored while writers wait, so that they don't win for ever; nothing is refused to them.
        Raises: Behind when too much is missing; LeaseLost; as `KnowledgeCommits.publish`.
        """

        def revision(manifest: Manifest) -> Manifest:
            self._hold()  # anew for each try
            return self._shadowed(manifest, over)

        with self._let_go_after_failure():
            self._hold()
            failpoint("reembed.held")
            commits = KnowledgeCommits(self._storage, self._engine, self._operation)
            commits.publish(self._shadow.base(), (), self._effect, None, revision, holder=True)
        failpoint("reembed.switched")

    def _hold(self) -> None:
        """Have all other writers wait, in every process. Raises: LeaseLost."""
        row = self._row
        until = {"held_until": DbNow(HOLD_SECONDS + _COMMITS * self._storage.commit_seconds)}
        hold = Update(KnowledgeBaseRepository.table, row.tenant_id, row.knowledge_base_id, until, None, ACTIVE)
        self._queue.write(self._leased, held(self._leased), hold)

    @contextmanager
    def _let_go_after_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            row = self._row
            gone = Update(KnowledgeBaseRepository.table, row.tenant_id, row.knowledge_base_id, {"held_until": None}, None, ACTIVE)
            with suppress(AgentHubError):  # what can't be let go now is let go by the clock
                self._storage.commit([gone])
            raise

    def _shadowed(self, manifest: Manifest, over: Over) -> Manifest:
        for _ in range(_ROUNDS):
            # The version is read before the mirrors: an erasure that takes one of them away changes it.
            self._version = self._rows.get(self._row.tenant_id, self._row.id).version
            mirrors = self._shadow.mirrors(self._shadow.base())
            missing = sum(gap.count for gap in gaps_of(manifest, mirrors))
            if not missing:
                return shadow_of(manifest, mirrors, self._row.signature)
            if missing > self._shadow.quick_rows or over():
                break
            self._shadow.fill(over)
        raise Behind("more is written than the switch can catch up with by the way", retry_after_seconds=1)

    def _effect(self, base: KnowledgeBase, generation: int, now: datetime) -> Effect:
        row = self._row
        pin = SnapshotRepository(self._storage).pinned(base)
        former = {"former_model": str(base.embedding_model), "former_signature": base.signature, "former_dimension": base.dimension}
        changes = {"state": "switched", "open_key": None, "switched_generation": generation, "pin_id": pin.id, "updated_at": now, **former}
        said = {"embedding_model": row.embedding_model, "former_model": base.embedding_model}
        writes: tuple[Write, ...] = (
            held(self._leased, generation=generation, tries=0),
            Update(ReembeddingRepository.table, row.tenant_id, row.id, changes, self._version, BUILDING),
            DeleteWhere(MIRRORS, row.tenant_id, Compare("reembedding_id", "eq", row.id)),
            Insert(PINS, {**row_of(pin), "expires_at": DbNow(KEPT_SECONDS)}),
            *self._rolled_back(now),
            self._operation.audit(TenantId(row.tenant_id), "knowledge_base.reembed", "knowledge_base", base.id, now, **said),
        )
        model = PinnedModel(row.embedding_model, row.signature, row.dimension)
        return Effect(None, "reembed", writes=writes, details={**said, "reembedding_id": row.id}, model=model)

    def _rolled_back(self, now: datetime) -> list[Write]:
        """What becomes of the re-embedding that this one takes back: its former vectors are the current ones again."""
        row = self._rows.find(self._row.tenant_id, self._row.rolls_back_id) if self._row.rolls_back_id else None
        if row is None or row.state != "switched":
            return []
        changes = {"state": "rolled_back", "pin_id": None, "updated_at": now}
        gone = [Delete(PINS, row.tenant_id, row.pin_id, missing_ok=True)] if row.pin_id else []
        return [Update(ReembeddingRepository.table, row.tenant_id, row.id, changes, row.version), *gone]
