"""Jobs of the kind `records`: a file of JSON lines in parts, each part one commit. Bad lines are told, good ones go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import UnsupportedDocument
from agenthub.core.types import TenantId
from agenthub.jobs.contract import Bench, Deadline
from agenthub.jobs.reasons import CODES
from agenthub.rag.chunks import Chunk
from agenthub.rag.records import BadLine, Record, read_records, stacked
from agenthub.repositories.knowledge.job_queue import Leased
from agenthub.repositories.knowledge.jobs import JobItem, JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.record_commits import RecordCommits
from agenthub.repositories.knowledge.snapshots import Snapshots

_TOLD_LINES: Final = 20
"""Bad lines of a part that are told one by one; of the others only the number is."""
_EMBEDDED_TOGETHER: Final = 128


class RecordsHandler:
    """Implements `Handler`."""

    together: ClassVar[int] = 1

    def __init__(self, bench: Bench) -> None:
        self._resources = bench.resources
        self._items = JobItemRepository(bench.resources.storage)

    def run_slice(self, leases: Sequence[Leased], deadline: Deadline) -> frozenset[str]:
        """See `Handler.run_slice`."""
        job = leases[0].job
        resources = self._resources
        base = KnowledgeBaseRepository(resources.storage).get(TenantId(job.tenant_id), str(job.knowledge_base_id))
        commits = RecordCommits(resources.storage, resources.knowledge, leases, base)
        while waiting := self._items.waiting_of(job, limit=16).items:
            for item in waiting:
                if deadline.passed:
                    return frozenset()
                resources.upkeep.admit(base)
                self._put(commits, base, item)
                resources.upkeep.notice(base.id)
        return frozenset({job.id})

    def _put(self, commits: RecordCommits, base: KnowledgeBase, item: JobItem) -> None:
        data = self._resources.knowledge.read_original(base.id, item.original)
        dimension = base.dimension if base.embedding_model is None else None
        good, bad = _parted(read_records(data, int(item.spec["first_line"]), dimension))
        fresh = good if dimension is not None else self._changed(base, good)
        told: dict[str, Any] = {
            "read": len(good) + len(bad),
            "added": len(fresh),
            "replaced": 0,
            "unchanged": len(good) - len(fresh),
            "bad": len(bad),
            "problems": [asdict(line) for line in bad[:_TOLD_LINES]],
        }
        if fresh:
            commits.put(item, [record.chunk for record in fresh], self._vectors(base, fresh), told)
        elif bad and not good:
            message = f"none of {len(bad)} lines is a record; line {bad[0].line}: {bad[0].message}"
            commits.settle(item, "failed", CODES[UnsupportedDocument], message)
        else:
            commits.end(item, told)

    def _changed(self, base: KnowledgeBase, records: Sequence[Record]) -> list[Record]:
        """Those that the knowledge base does not have as they are."""
        _, searcher = Snapshots(self._resources.storage, self._resources.knowledge).open(base.tenant_id, base.id)
        known = searcher.find_chunks([record.chunk.id for record in records])
        return [record for record in records if not _same(known.get(record.chunk.id), record.chunk)]

    def _vectors(self, base: KnowledgeBase, records: Sequence[Record]) -> NDArray[float32]:
        if base.embedding_model is None:
            return stacked(records)
        embedder = pinned_embedder(self._resources.embedders, base)
        texts = [record.chunk.searched_text for record in records]
        steps = range(0, len(texts), _EMBEDDED_TOGETHER)
        return np.concatenate([embedder.embed(texts[start : start + _EMBEDDED_TOGETHER], background=True) for start in steps])


def _parted(lines: Iterable[Record | BadLine]) -> tuple[list[Record], list[BadLine]]:
    """Records and bad lines; of several records with one id the last counts."""
    good: dict[str, Record] = {}
    bad: list[BadLine] = []
    for line in lines:
        if isinstance(line, BadLine):
            bad.append(line)
        else:
            good.pop(line.chunk.id, None)
            good[line.chunk.id] = line
    return list(good.values()), bad


def _same(known: Chunk | None, new: Chunk) -> bool:
    return known is not None and (known.text, known.context, dict(known.metadata)) == (new.text, new.context, dict(new.metadata))
