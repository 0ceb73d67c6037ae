"""Jobs: work that outlives its request, as rows. Whoever is alive does it in slices; see repositories/knowledge/job_queue.py.

A job is made of items, such as the documents of an upload. Which items are done is said by the commit that did them, so a runner
may die at any point and another goes on (RELIABILITY.md B9, B12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from agenthub.core.errors import NotFound
from agenthub.core.types import DocumentId, KnowledgeBaseId, TenantId
from agenthub.rag.references import FileRef
from agenthub.repositories.activity import Measured, noted
from agenthub.repositories.base import Page, Repository, all_of
from agenthub.repositories.operations import Actor
from agenthub.storage.contract import Compare, Filter, Order, Table, Write

JobStatus = Literal["queued", "running", "succeeded", "partly", "failed", "cancelled"]
"""`partly`: some items were done and some failed. The last four are final."""
ItemStatus = Literal["waiting", "done", "skipped", "failed", "quarantined"]
"""`skipped`: there was nothing to do. `failed`: certain refusals. `quarantined`: three tries killed or outlasted what read it."""
STATUSES: Final[tuple[JobStatus, ...]] = get_args(JobStatus)
OPEN: Final = ("queued", "running")
DEAD: Final = ("failed", "partly")
"""Jobs that ended with something undone: the dead letters."""
SETTLED: Final[tuple[ItemStatus, ...]] = ("done", "skipped", "failed", "quarantined")
FIRST: Final = (Order("id"),)
"""Oldest first: items in the order they came in."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    `arguments` are what was asked for and never change; `state` is the handler's own checkpoint, with `unfinished` true while it
    may still find items. The counts are of items that have a final status. `tries` counts slices since the last progress, also
    those whose runner died. Runners take jobs that are due in the order of `turn_at`. The lease belongs to whoever knows `fence`,
    until `lease_until` by the database's clock. `worked_seconds` is the time spent in slices. `created_by` is the user in whose
    name documents are made, `actor_…` what audit rows say. `expires_at`, set at the end, says when the job is forgotten.
    """

    id: str
    tenant_id: TenantId
    kind: str
    knowledge_base_id: KnowledgeBaseId | None
    status: JobStatus
    stage: str
    arguments: Mapping[str, Any]
    state: Mapping[str, Any]
    total_count: int
    done_count: int
    skipped_count: int
    failed_count: int
    quarantined_count: int
    error_code: str | None
    error_message: str | None
    generation: int | None
    tries: int
    due_at: datetime
    turn_at: datetime
    fence: str
    lease_until: datetime
    worked_seconds: float
    created_by: str
    actor_kind: str
    actor_id: str | None
    request_id: str | None
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None
    version: int = 1

    @property
    def actor(self) -> Actor:
        """Whose commits a runner makes."""
        return Actor(self.actor_kind, self.actor_id, None, self.request_id)

    @property
    def finished(self) -> bool:
        """Whether the status is final."""
        return self.status not in OPEN

    @property
    def settled_count(self) -> int:
        """How many items have a final status."""
        return self.done_count + self.skipped_count + self.failed_count + self.quarantined_count

    @property
    def rate(self) -> float | None:
        """Items a second of work; None before the first."""
        return self.settled_count / self.worked_seconds if self.worked_seconds > 0 and self.settled_count else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the rate so far; None when there is none, or no rest."""
        rate = self.rate
        return None if self.finished or rate is None else max(0, self.total_count - self.settled_count) / rate


@dataclass(frozen=True, slots=True)
class JobItem:
    """One thing a job has to do.

    `document_id` is fixed when the item is made, so that doing it twice can't make two documents. The original lies on the
    volume until it belongs to the document; `original_name` is empty where there is none. `spec` is the kind's own.
    `attempts` counts how often reading was begun and not ended, as far as anybody could note. `retryable` says of one that failed
    whether trying again makes sense: a certain refusal is final, and its original is gone.
    """

    id: str
    tenant_id: TenantId
    job_id: str
    knowledge_base_id: KnowledgeBaseId | None
    action: Literal["add", "replace"]
    name: str
    status: ItemStatus
    attempts: int
    document_id: DocumentId | None
    title: str | None
    filename: str | None
    media_type: str | None
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    original_name: str
    original_bytes: int
    original_sha256: str
    error_code: str | None
    error_message: str | None
    retryable: bool
    generation: int | None
    created_at: datetime
    finished_at: datetime | None
    version: int = 1

    @property
    def original(self) -> FileRef:
        """Where the bytes to read are."""
        return FileRef(self.original_name, self.original_bytes, self.original_sha256)


class JobRepository(Repository[Job]):
    """Jobs of all kinds. Their leases and checkpoints are job_queue.py's."""

    table = Table.of(
        "jobs",
        Job,
        indexes=[("tenant_id", "status", "turn_at"), ("tenant_id", "knowledge_base_id", "id"), ("status", "created_at"), ("expires_at",)],
    )
    entity = Job
    resource_kind = "job"


class JobItemRepository(Repository[JobItem]):
    """Items, always asked for with their job."""

    table = Table.of(
        "job_items",
        JobItem,
        indexes=[
            ("tenant_id", "job_id", "id"),
            ("tenant_id", "job_id", "status", "attempts", "id"),
            ("knowledge_base_id", "id"),
            ("tenant_id", "document_id"),
        ],
    )
    entity = JobItem

    def retryable_of(self, job: Job, *, limit: int = 500) -> tuple[JobItem, ...]:
        """Some of the items that failed and can be tried again: what they need is still there."""
        ended = of_job(job, Compare("status", "in", ("failed", "quarantined")), Compare("retryable", "eq", True))
        return self.page(job.tenant_id, where=ended, order=FIRST, limit=limit).items

    def page_of(self, job: Job, *, where: Filter | None = None, limit: int = 50, cursor: str | None = None) -> Page[JobItem]:
        """One page of a job's items, in the order they came in."""
        return self.page(job.tenant_id, where=of_job(job, where), order=FIRST, limit=limit, cursor=cursor)

    def waiting_of(self, job: Job, *, limit: int = 100, cursor: str | None = None) -> Page[JobItem]:
        """One page of a job's items without a final status, those with the fewest attempts first."""
        waits = of_job(job, Compare("status", "eq", "waiting"))
        return self.page(job.tenant_id, where=waits, order=(Order("attempts"),), limit=limit, cursor=cursor)

    def only_one(self, job: Job) -> JobItem:
        """The item of a job that has one.

        Raises: NotFound when it is gone: its document was erased.
        """
        found = self._find_one(job.tenant_id, job_id=job.id)
        if found is None:
            raise NotFound("no item of this job")
        return found


def of_job(job: Job, *more: Filter | None) -> Filter:
    """The filter for a job's items, with more conditions where given."""
    return all_of(Compare("job_id", "eq", job.id), *more)


def job_noted(job: Job, turn: str, now: datetime) -> Write:
    """The write that counts a turn of a job's life: `queued`, `retried`, or the status that it ended with."""
    counts = {"done": job.done_count, "skipped": job.skipped_count, "failed": job.failed_count + job.quarantined_count}
    figures = Measured(job.total_count, job.worked_seconds, details={**counts, "knowledge_base_id": job.knowledge_base_id})
    return noted(job.tenant_id, job.actor, now, "job", f"{job.kind}.{turn}", subject_id=job.id, measured=figures)


JOB_TABLES: Final = (JobRepository.table, JobItemRepository.table)
"""What is left of the jobs of a knowledge base."""
