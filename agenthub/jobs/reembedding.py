"""Jobs of the kind `reembed`: build the shadow of a knowledge base in another model, follow what is written, and switch if asked to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar, Final

from agenthub.jobs.contract import Bench, Deadline
from agenthub.rag.embedding.contract import Embedder
from agenthub.rag.vectors import Vectors
from agenthub.repositories.knowledge.commits import ErasedMeanwhile
from agenthub.repositories.knowledge.job_queue import Leased
from agenthub.repositories.knowledge.models import embedder_of
from agenthub.repositories.knowledge.reembeddings import Reembedding, ReembeddingRepository
from agenthub.repositories.knowledge.shadows import Shadow
from agenthub.repositories.knowledge.switching import Behind, Switch

_ASKS_SECONDS: Final = 2.0
"""How often it is asked whether other jobs wait."""
_NAP_SECONDS: Final = 0.2


class ReembedHandler:
    """Implements `Handler`."""

    together: ClassVar[int] = 1

    def __init__(self, bench: Bench) -> None:
        self._resources = bench.resources
        self._queue = bench.queue
        self._rows = ReembeddingRepository(bench.resources.storage)

    def run_slice(self, leases: Sequence[Leased], deadline: Deadline) -> frozenset[str]:
        """See `Handler.run_slice`."""
        leased = leases[0]
        row = self._rows.find(leased.job.tenant_id, str(leased.job.arguments["reembedding_id"]))
        if row is None or row.state != "building":
            return frozenset({leased.job.id})
        resources = self._resources
        self._pace = _Pace(embedder_of(resources.embedders, row.embedding_model, row.signature), row.chunks_per_second, deadline)
        shadow = Shadow(self._queue, resources.storage, resources.knowledge, leased, row, self._pace.embed)
        turn = _Turn(self, leases, deadline)
        try:
            return frozenset({leased.job.id}) if self._work(leased, row, shadow, turn) else frozenset()
        finally:
            for result, count in zip(("embedded", "reused"), shadow.made_counts, strict=True):
                resources.observer.count("kb_reembedded_chunks", count, result=result)

    def others_wait(self, leases: Sequence[Leased]) -> bool:
        """Whether another job waits for a runner."""
        return self._queue.others_wait(leases)

    def _work(self, leased: Leased, row: Reembedding, shadow: Shadow, turn: _Turn) -> bool:
        """Whether nothing is left to do."""
        while not turn.over():
            try:
                if self._step(leased, row, shadow, turn):
                    return True
            except (Behind, ErasedMeanwhile):
                continue  # what there is now is another thing: look again
        return False

    def _step(self, leased: Leased, row: Reembedding, shadow: Shadow, turn: _Turn) -> bool:
        """Whether it was the last one."""
        behind = shadow.missing() > shadow.quick_rows if row.auto_switch else not shadow.follows()
        if behind:
            shadow.fill(turn.over)
            return False
        if shadow.settle():
            return False
        if not row.auto_switch:
            shadow.note_ready()
            return True
        self._pace.rest()  # not while writers wait
        Switch(self._queue, self._resources.storage, self._resources.knowledge, leased, row, shadow).publish(turn.over)
        self._resources.observer.count("kb_reembeddings")
        self._resources.upkeep.notice(row.knowledge_base_id)
        return True


class _Turn:
    """Whether a slice is over: its time is, or it had some and others wait."""

    def __init__(self, handler: ReembedHandler, leases: Sequence[Leased], deadline: Deadline) -> None:
        self._handler = handler
        self._leases = leases
        self._deadline = deadline
        self._asked = time.monotonic()
        self._waited_for = False

    def over(self) -> bool:
        """See the class."""
        if time.monotonic() - self._asked > _ASKS_SECONDS:
            self._asked = time.monotonic()
            self._waited_for = self._handler.others_wait(self._leases)
        return self._waited_for or self._deadline.passed


class _Pace:
    """Embeds in the background, at most so many chunks a second."""

    def __init__(self, embedder: Embedder, chunks_per_second: int | None, deadline: Deadline) -> None:
        self._embedder = embedder
        self._rate = chunks_per_second
        self._deadline = deadline
        self._free_at = time.monotonic()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors; waits first where the texts before took less time than they may."""
        self.rest()
        if self._rate:
            self._free_at = time.monotonic() + len(texts) / self._rate
        return self._embedder.embed(texts, background=True)

    def rest(self) -> None:
        """Wait until the next texts may be embedded."""
        while self._rate and time.monotonic() < self._free_at and not self._deadline.stopping:
            time.sleep(min(_NAP_SECONDS, max(0.0, self._free_at - time.monotonic())))
