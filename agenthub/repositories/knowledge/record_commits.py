"""What runners write of records: a part of a file in one generation, with its item and job, or nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from numpy import float32
from numpy.typing import NDArray

from agenthub.rag.segment import Chunk
from agenthub.repositories.knowledge.commits import Burial, Effect
from agenthub.repositories.knowledge.job_commits import JobCommits
from agenthub.repositories.knowledge.jobs import JobItem
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.snapshots import Snapshots


class RecordCommits(JobCommits):
    """The commits of one slice over records."""

    def put(self, item: JobItem, chunks: Sequence[Chunk], vectors: NDArray[float32], told: Mapping[str, Any]) -> None:
        """Add the chunks, in place of those of the same ids; `told` is what the item then says of its lines.

        Raises: LeaseLost; NotFound when the knowledge base was deleted; as `Staging.publish`.
        """
        ids = [chunk.id for chunk in chunks]

        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            self._queue.check(self._leases[item.job_id])
            replaced = Snapshots(self._storage, self._engine).at(base).find_chunks(ids)
            lost = Counter(chunk.document_id for chunk in replaced.values() if chunk.document_id)
            details = {"count": len(ids), "replaced": len(replaced)}
            audit = self._operation.audit(base.tenant_id, "chunk.create", "knowledge_base", base.id, now, **details)
            recounts = self._documents.recounts(base.tenant_id, lost, generation, now)
            return Effect(
                None,
                "add",
                burials=tuple(Burial("chunk", key) for key in replaced),
                writes=(*recounts, audit, *self.item_done(item, {**told, "replaced": len(replaced)}, generation)),
                chunks_delta=len(ids) - len(replaced),
            )

        with self._commits.staging(self._base) as staging:
            staging.write_segment(chunks, vectors)
            staging.publish(plan)
        self.item_was_done(item)

    def end(self, item: JobItem, told: Mapping[str, Any]) -> None:
        """End an item of which nothing is to be written.

        Raises: LeaseLost.
        """
        ended, *held_job = self.item_done(item, told, None)
        self._queue.write(self._leases[item.job_id], *held_job, ended)
        self.item_was_done(item)
