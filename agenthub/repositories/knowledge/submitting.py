"""Making jobs: what came in is put on the volume, then the job and its items are made in one commit. Takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from agenthub.core.errors import GenerationConflict, NotFound, RateLimited, VersionConflict
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import new_id
from agenthub.core.types import DocumentId
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.references import FileRef
from agenthub.repositories.knowledge.commits import KnowledgeCommits, Staging
from agenthub.repositories.knowledge.job_queue import NEW_JOB_ADVANTAGE_SECONDS, Leased, held, queueing
from agenthub.repositories.knowledge.jobs import OPEN, Job, JobItem, JobItemRepository, JobRepository, job_noted
from agenthub.repositories.knowledge.knowledge_bases import ACTIVE, KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import Compare, DbNow, Insert, Require, Storage, Write

MOST_OPEN_JOBS: Final = 10_000
"""Unfinished jobs of one organization; more are refused until some are done."""
_NO_FILE: Final = FileRef("", 0, "")


@dataclass(frozen=True, slots=True)
class ItemDraft:
    """One thing to do, before it is kept. `data` is what to read, None where the kind finds it by itself from `spec`.

    `document_id` is the document to replace; left out, a new one is made.
    """

    name: str
    data: bytes | None = None
    action: Literal["add", "replace"] = "add"
    document_id: DocumentId | None = None
    title: str | None = None
    filename: str | None = None
    media_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job as it was made, with its first items."""

    job: Job
    items: tuple[JobItem, ...]


class Submissions(JobRepository):
    """Makes jobs on a knowledge base, and adds items to them."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation | None = None) -> None:
        super().__init__(storage, operation)
        self._commits = KnowledgeCommits(storage, engine, operation)

    def submit(
        self,
        base: KnowledgeBase,
        kind: str,
        drafts: Sequence[ItemDraft],
        created_by: str,
        answer: Callable[[Job], Any],
        arguments: Mapping[str, Any] | None = None,
        *,
        unfinished: bool = False,
        beside: Callable[[Job], Sequence[Write]] = lambda _job: (),
    ) -> Submitted:
        """Keep what came in, durably, and queue the job. `answer` makes the answer that repeats of the request get at first.
        `unfinished`: its handler is to find more items. `beside`: what else the commit writes.

        Raises: RateLimited with too many unfinished jobs; NotFound when the knowledge base was deleted; VolumeFull;
        VolumeUnavailable; OperationRepeated when a racing twin of the request was first.
        """
        if self.count(base.tenant_id, Compare("status", "in", OPEN)) >= MOST_OPEN_JOBS:
            raise RateLimited("this organization has too many unfinished jobs; try again", retry_after_seconds=10)
        job = replace(self._new_job(base, kind, len(drafts), created_by, arguments or {}), state={"unfinished": True} if unfinished else {})
        with self._commits.staging(base) as staging:
            items = _items(staging, job, drafts)
            alive = Require(KnowledgeBaseRepository.table, base.tenant_id, base.id, ACTIVE)
            writes = [alive, staging.ending(), _queued(job), *_insertions(items), *queueing(base.tenant_id, job.created_at)]
            writes.append(job_noted(job, "queued", job.created_at))
            writes += beside(job)
            failpoint("job.submit")
            try:
                self._commit(base.tenant_id, writes, answer(job), "create", job.id)
            except VersionConflict as error:
                raise _too_late(self._storage, base, error) from error
        failpoint("job.submitted")
        return Submitted(job, items)

    def extend(self, leased: Leased, base: KnowledgeBase, drafts: Sequence[ItemDraft], state: Mapping[str, Any], total: int) -> None:
        """Add items that a runner found, with the handler's checkpoint of where it found them, in one commit under the lease.

        At most 500 drafts. `total` is the job's number of items from now on.
        Raises: LeaseLost; VolumeFull; VolumeUnavailable.
        """
        with self._commits.staging(base) as staging:
            items = _items(staging, leased.job, drafts)
            failpoint("job.extend")
            changes = held(leased, state=dict(state), total_count=total, tries=0)
            try:
                self._storage.commit([changes, staging.ending(), *_insertions(items)])
            except (VersionConflict, NotFound) as error:
                raise _too_late(self._storage, base, error) from error

    def _new_job(self, base: KnowledgeBase, kind: str, count: int, created_by: str, arguments: Mapping[str, Any]) -> Job:
        now, actor = self.now(), self._operation.actor
        return Job(
            id=new_id(),
            tenant_id=base.tenant_id,
            kind=kind,
            knowledge_base_id=base.id,
            status="queued",
            stage="waiting",
            arguments=dict(arguments),
            state={},
            total_count=count,
            done_count=0,
            skipped_count=0,
            failed_count=0,
            quarantined_count=0,
            error_code=None,
            error_message=None,
            generation=None,
            tries=0,
            due_at=now,
            turn_at=now,
            fence="",
            lease_until=now,
            worked_seconds=0.0,
            created_by=created_by,
            actor_kind=actor.kind,
            actor_id=actor.id,
            request_id=actor.request_id,
            created_at=now,
            started_at=None,
            updated_at=now,
            finished_at=None,
            expires_at=None,
        )


def _queued(job: Job) -> Insert:
    return Insert(JobRepository.table, {**row_of(job), "turn_at": DbNow(-NEW_JOB_ADVANTAGE_SECONDS)})


def _items(staging: Staging, job: Job, drafts: Sequence[ItemDraft]) -> tuple[JobItem, ...]:
    return tuple(_item(job, draft, staging.put_original(draft.data) if draft.data is not None else _NO_FILE) for draft in drafts)


def _insertions(items: Sequence[JobItem]) -> list[Write]:
    return [Insert(JobItemRepository.table, row_of(item)) for item in items]


def _item(job: Job, draft: ItemDraft, original: FileRef) -> JobItem:
    return JobItem(
        id=new_id(),
        tenant_id=job.tenant_id,
        job_id=job.id,
        knowledge_base_id=job.knowledge_base_id,
        action=draft.action,
        name=draft.name,
        status="waiting",
        attempts=0,
        document_id=draft.document_id or DocumentId(new_id()),
        title=draft.title,
        filename=draft.filename,
        media_type=draft.media_type,
        metadata=dict(draft.metadata),
        spec=dict(draft.spec),
        original_name=original.name,
        original_bytes=original.length_bytes,
        original_sha256=original.sha256,
        error_code=None,
        error_message=None,
        retryable=True,
        generation=None,
        created_at=job.created_at,
        finished_at=None,
    )


def _too_late(storage: Storage, base: KnowledgeBase, error: Exception) -> Exception:
    """Why the commit was refused: the knowledge base is gone, or this writer took longer than it may."""
    row = storage.get(KnowledgeBaseRepository.table, base.tenant_id, base.id)
    if row is None or row["state"] != "active":
        return NotFound("no knowledge base with this id")
    return GenerationConflict(f"this write took too long and was given up; try again ({type(error).__name__})", retry_after_seconds=1)
