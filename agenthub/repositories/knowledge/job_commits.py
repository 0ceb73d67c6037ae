"""What runners write: documents of several jobs in one generation, results of single items, strikes; all under the jobs' leases."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import LeaseLost, NotFound
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import new_id
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.segment import Chunk
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.job_queue import JobQueue, Leased, closing, held
from agenthub.repositories.knowledge.jobs import ItemStatus, Job, JobItem, JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.matching import Match, Matching, by_id, source_of
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import And, Compare, DbNow, Storage, Update, Write

MOST_STRIKES: Final = 3
"""So often reading an item may be begun and not ended; then it is put in quarantine."""


@dataclass(frozen=True, slots=True)
class Made:
    """A document that an item asked for, ready to be kept: its original is on the volume already."""

    item: JobItem
    document: Document
    chunks: tuple[Chunk, ...]
    vectors: NDArray[float32]


class _Gone(Exception):
    """Some of the items to be committed may not be; with the reason where that is the item's end, None where it is not ours."""

    def __init__(self, reasons: Mapping[str, str | None]) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = reasons


class _Overtaken(Exception):
    """Some of the documents to be committed meet others that came in meanwhile, by their ids."""

    def __init__(self, ids: set[str]) -> None:
        super().__init__(", ".join(ids))
        self.ids = ids


class JobCommits:
    """The commits of one slice, for jobs of one knowledge base and one actor."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, leases: Sequence[Leased], base: KnowledgeBase) -> None:
        self._storage = storage
        self._engine = engine
        self._leases = {leased.job.id: leased for leased in leases}
        self._base = base
        self._operation = Operation(leases[0].job.actor)
        self._items = JobItemRepository(storage)
        self._documents = DocumentRepository(storage, self._operation)
        self._commits = KnowledgeCommits(storage, engine, self._operation)
        self._queue = JobQueue(storage)
        self.matching = Matching(self._documents, base)
        self._started_seconds = time.monotonic()
        self.jobs: dict[str, Job] = {leased.job.id: leased.job for leased in leases}
        """The jobs as they are after the last commit."""

    # --- strikes ---

    def mark(self, items: Sequence[JobItem], refunded: Sequence[JobItem] = ()) -> list[JobItem]:
        """Count an attempt for each item before it is read, in a commit of its own; take back those of items that were read."""
        if not items and not refunded:
            return []
        writes = [_counted(item, item.attempts + 1) for item in items] + [_counted(item, item.attempts - 1) for item in refunded]
        rows = self._storage.commit(writes)
        failpoint("job.marked")
        return [JobItemRepository.from_row(row) for row in rows[: len(items)] if row]

    # --- results ---

    def settle(
        self, item: JobItem, status: ItemStatus, code: str | None = None, message: str | None = None, *, retryable: bool = False
    ) -> None:
        """Give an item that makes no document its final status. Where trying again makes no sense, its original goes.

        Raises: LeaseLost.
        """
        job = _advanced(self.jobs[item.job_id], status, 1)
        reason = {"error_code": code, "error_message": message, "retryable": retryable}
        name = item.original_name if retryable else ""
        write = _settling(item, {"status": status, "finished_at": DbNow(), "original_name": name, **reason})
        self._queue.write(self._leases[job.id], *self._held(job), write)
        self.jobs[job.id] = job
        if retryable:
            failpoint("job.settled")
        else:
            self._drop_original(item)

    def skip(self, item: JobItem, same: Document) -> None:
        """End an item whose content is in the knowledge base already, as this document.

        Raises: LeaseLost.
        """
        job = _advanced(self.jobs[item.job_id], "skipped", 1)
        self._queue.write(self._leases[job.id], *self._held(job), _settling(item, _skipped(same)))
        self.jobs[job.id] = job
        self._drop_original(item)

    def absorb(self, item: JobItem, match: Match) -> bool:
        """End an item whose content is there already, and remove the document of its source, whose content is an older one.

        False when one of them changed meanwhile: look again. Raises: LeaseLost; as `KnowledgeCommits.publish`.
        """
        same, stale = match.same, match.stale
        if same is None or stale is None:
            return False
        job = _advanced(self.jobs[item.job_id], "skipped", 1)

        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            if self._documents.get_many(base.tenant_id, [same.id, stale.id]) != {same.id: same, stale.id: stale}:
                raise _Overtaken({stale.id})
            writes = [*self._documents.removal(stale, generation), self._documents.audited(stale, "delete", now)]
            settling = _settling(item, _skipped(same))
            return Effect(
                None,
                "delete",
                burials=(Burial("document", stale.id),),
                writes=(*writes, settling, *self._held(job, generation=generation)),
                documents_delta=-1,
                chunks_delta=-stale.chunk_count,
                size_delta_bytes=-stale.size_bytes,
            )

        try:
            self._commits.publish(self._base, (), plan)
        except (_Overtaken, NotFound):
            return False
        self.jobs[job.id] = job
        self._drop_original(item)
        return True

    def keep(self, item: JobItem, data: bytes, filename: str | None, media_type: str | None, spec: Mapping[str, Any]) -> None:
        """Put the bytes of an item on the volume, from where it goes on like an upload.

        Raises: LeaseLost; VolumeFull; VolumeUnavailable.
        """
        with self._commits.staging(self._base) as staging:
            original = staging.put_original(data)
            place = {"original_name": original.name, "original_bytes": original.length_bytes, "original_sha256": original.sha256}
            changes = {**place, "filename": filename, "media_type": media_type, "spec": dict(spec), "attempts": 0}
            self._queue.write(self._leases[item.job_id], held(self._leases[item.job_id]), staging.ending(), _settling(item, changes))

    def item_done(self, item: JobItem, told: Mapping[str, Any], generation: int | None) -> list[Write]:
        """The writes that end an item which makes no document, with what it tells; its original goes with it."""
        over = {"status": "done", "generation": generation, "finished_at": DbNow(), "error_code": None, "error_message": None}
        ended = _settling(item, {**over, "original_name": "", "retryable": False, "spec": {**item.spec, "lines": dict(told)}})
        changes = {} if generation is None else {"generation": generation}
        return [ended, *self._held(_advanced(self.jobs[item.job_id], "done", 1), **changes)]

    def item_was_done(self, item: JobItem) -> None:
        """Take note of a commit of `item_done`."""
        self.jobs[item.job_id] = _advanced(self.jobs[item.job_id], "done", 1)
        self._drop_original(item)

    def redirect(self, item: JobItem, document: Document | None) -> JobItem:
        """Let an item replace this document, the present one of its source; without one, make a new one."""
        changes: dict[str, Any] = (
            {"action": "replace", "document_id": document.id} if document else {"action": "add", "document_id": new_id()}
        )
        rows = self._storage.commit([_settling(item, changes)])
        return JobItemRepository.from_row(rows[0]) if rows[0] else item

    def _drop_original(self, item: JobItem) -> None:
        failpoint("job.settled")
        if item.original_name:
            self._engine.volume.discard(self._base.id, [item.original])

    def note(self, item: JobItem, code: str, message: str) -> None:
        """Keep the reason why the last attempt of an item failed."""
        self._storage.commit([_settling(item, {"error_code": code, "error_message": message})])

    def publish(self, made: Sequence[Made]) -> None:
        """Make the documents searchable in one generation, and say so in their items and jobs, or do none of it.

        Those whose job was taken away, that were erased, or whose document to replace is gone are left out. Those that meet a
        document that came in meanwhile stay waiting, and are looked at again in the next slice.
        Raises: LeaseLost when no job is left; as `Staging.publish`.
        """
        remaining = list(made)
        while remaining:
            try:
                self._publish(remaining)
            except _Gone as gone:
                remaining = self._without(remaining, gone.reasons)
                continue
            except _Overtaken as overtaken:
                remaining = [one for one in remaining if one.document.id not in overtaken.ids]
                continue
            except NotFound:
                remaining = self._still_there(remaining)
                continue
            for job_id, count in Counter(one.item.job_id for one in remaining).items():
                self.jobs[job_id] = _advanced(self.jobs[job_id], "done", count)
            return

    def stage(self, name: str) -> None:
        """Say what the jobs are at. Raises: LeaseLost."""
        for leased in self._leases.values():
            self._queue.write(leased, held(leased, stage=name))

    def _publish(self, made: Sequence[Made]) -> None:
        with self._commits.staging(self._base) as staging:
            self._refuse_gone(made)  # after the intent: nothing of what was erased before it gets to the volume
            chunks = [chunk for one in made for chunk in one.chunks]
            if chunks:
                staging.write_segment(chunks, np.concatenate([one.vectors for one in made]))
            failpoint("job.staged")
            staging.publish(self._plan(made))
        failpoint("job.published")

    def _plan(self, made: Sequence[Made]) -> Plan:
        calls = 0

        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            nonlocal calls
            calls += 1
            if calls > 1:  # the commit itself asks the same, but can't say which of them it was
                self._refuse_gone(made)
            replaces = made[0].item.action == "replace"
            return self._replacements(base, made, generation, now) if replaces else self._additions(made, generation, now)

        return plan

    def _additions(self, made: Sequence[Made], generation: int, now: datetime) -> Effect:
        documents = [replace(one.document, generation=generation, created_at=now, updated_at=now) for one in made]
        if overtaken := self.matching.overtaken(documents):
            raise _Overtaken(overtaken)
        writes: list[Write] = [self._documents.insertion(document) for document in documents]
        writes += [self._documents.audited(document, "create", now) for document in documents]
        return Effect(
            None,
            "add",
            writes=(*writes, *self._settlements(made, generation)),
            documents_delta=len(documents),
            chunks_delta=sum(d.chunk_count for d in documents),
            size_delta_bytes=sum(d.size_bytes for d in documents),
        )

    def _replacements(self, base: KnowledgeBase, made: Sequence[Made], generation: int, now: datetime) -> Effect:
        known = self._documents.get_many(base.tenant_id, [one.document.id for one in made])
        present = {one.item.id: known.get(one.document.id) for one in made}
        gone = {key: "the document was deleted" for key, old in present.items() if old is None or old.knowledge_base_id != base.id}
        moved: set[str] = {one.document.id for one in made if one.item.id in gone and source_of(one.item)}
        if moved := moved | self.matching.overtaken([one.document for one in made if not by_id(one.item)]):
            raise _Overtaken(moved)
        if gone:
            raise _Gone(gone)
        taken = self.matching.overtaken([one.document for one in made])
        pairs = [
            (old, _replacing(old, one.document, generation, now, keyed=one.document.id not in taken))
            for one in made
            if (old := present[one.item.id])
        ]
        writes: list[Write] = [write for old, after in pairs for write in self._documents.replacement(old, after)]
        writes += [self._documents.audited(after, "replace", now) for _, after in pairs]
        return Effect(
            None,
            "replace",
            burials=tuple(Burial("document", old.id) for old, _ in pairs),
            writes=(*writes, *self._settlements(made, generation)),
            chunks_delta=sum(after.chunk_count - old.chunk_count for old, after in pairs),
            size_delta_bytes=sum(after.size_bytes - old.size_bytes for old, after in pairs),
        )

    def _settlements(self, made: Sequence[Made], generation: int) -> list[Write]:
        """The items and jobs as they are when this generation is there."""
        done = {"status": "done", "generation": generation, "finished_at": DbNow(), "error_code": None, "error_message": None}
        done["original_name"] = ""  # the file is the document's now
        writes: list[Write] = [_settling(one.item, done) for one in made]
        counted = Counter(one.item.job_id for one in made)
        for job_id, count in counted.items():
            writes += self._held(_advanced(self.jobs[job_id], "done", count), generation=generation)
        return writes

    def _held(self, job: Job, **changes: Any) -> list[Write]:
        """The writes of a checkpoint; of the last one they are the job's end too, unless its handler finds more items."""
        counts = {f"{status}_count": getattr(job, f"{status}_count") for status in ("done", "skipped", "failed", "quarantined")}
        progress = {**counts, "error_code": None, "error_message": None, **changes}
        if job.settled_count >= job.total_count and not job.state.get("unfinished"):
            worked = job.worked_seconds + (time.monotonic() - self._started_seconds) / len(self._leases)
            return closing(self._leases[job.id], job, self._storage.now(), worked, **progress)
        return [held(self._leases[job.id], tries=0, lease_until=DbNow(self._queue.lease_seconds), **progress)]

    # --- what is ours no more ---

    def _refuse_gone(self, made: Sequence[Made]) -> None:
        items = self._items.get_many(self._base.tenant_id, [one.item.id for one in made])
        lost = {job_id for job_id in {one.item.job_id for one in made} if not self._has(job_id)}
        gone = {
            one.item.id: None
            for one in made
            if one.item.job_id in lost or one.item.id not in items or items[one.item.id].status != "waiting"
        }
        if gone:
            raise _Gone(gone)

    def _has(self, job_id: str) -> bool:
        try:
            self._queue.check(self._leases[job_id])
        except LeaseLost:
            return False
        return True

    def _still_there(self, made: Sequence[Made]) -> list[Made]:
        """Those that are ours after a commit in which something was missing. Raises: NotFound when all are."""
        try:
            self._refuse_gone(made)
        except _Gone as gone:
            return self._without(made, gone.reasons)
        raise NotFound("no knowledge base with this id")

    def _without(self, made: Sequence[Made], reasons: Mapping[str, str | None]) -> list[Made]:
        for one in made:
            if (reason := reasons.get(one.item.id)) is not None:
                self.settle(one.item, "failed", "not_found", reason)
        remaining = [one for one in made if one.item.id not in reasons]
        if not remaining and not any(reasons.values()):
            raise LeaseLost("none of the jobs is this runner's any more")
        return remaining


def _counted(item: JobItem, attempts: int) -> Update:
    return _settling(item, {"attempts": attempts})


def _settling(item: JobItem, changes: Mapping[str, Any]) -> Update:
    waits = And((Compare("status", "eq", "waiting"),))
    return Update(JobItemRepository.table, item.tenant_id, item.id, dict(changes), None, waits)


def _skipped(same: Document) -> dict[str, Any]:
    none = {"error_code": None, "error_message": None, "retryable": False, "original_name": ""}
    return {"status": "skipped", "document_id": same.id, "generation": same.generation, "finished_at": DbNow(), **none}


def _advanced(job: Job, status: ItemStatus, count: int) -> Job:
    name = f"{status}_count"
    changes: dict[str, Any] = {name: getattr(job, name) + count}
    return replace(job, **changes)


def _replacing(old: Document, new: Document, generation: int, now: datetime, *, keyed: bool) -> Document:
    """The document after it. One that was put by its id where another has the same content stands beside it, without a key."""
    return replace(
        new,
        id=old.id,
        source=new.source or old.source,
        content_key=new.content_key if keyed else None,
        created_by=old.created_by,
        created_at=old.created_at,
        updated_at=now,
        generation=generation,
        revision=old.revision + 1,
        version=old.version + 1,
    )
