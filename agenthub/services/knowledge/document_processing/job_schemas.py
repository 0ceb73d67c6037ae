"""Request and answer shapes of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from agenthub.repositories.knowledge.jobs import DEAD, OPEN, ItemStatus, Job, JobItem, JobStatus
from agenthub.web.schema import Id, PageQuery, Schema

StatusQuery = Literal["queued", "running", "succeeded", "partly", "failed", "cancelled", "open", "dead"]
GROUPS: Final[dict[str, tuple[str, ...]]] = {"open": OPEN, "dead": DEAD}
"""What `open` and `dead` stand for: not ended, and ended with something undone."""


class JobListQuery(PageQuery):
    """Which jobs to list."""

    status: Annotated[
        StatusQuery | SkipJsonSchema[None],
        Field(description="`open`: queued or running; `dead`: failed or partly, the dead letters"),
    ] = None
    knowledge_base_id: Annotated[Id | SkipJsonSchema[None], Field(description="of this knowledge base")] = None


class Progress(Schema):
    """How many of the job's items have a final status; `total` may grow while sources are still being read."""

    done: int
    total: int
    succeeded: int
    skipped: int
    failed: int
    quarantined: int


class Problem(Schema):
    """Why something is not done."""

    code: str
    message: str


class JobOut(Schema):
    """A job. `queued` and `running` are open, all other statuses final: `succeeded`, `partly` (some items failed), `failed`, `cancelled`.

    `rate` is items a second of work, `seconds_left` an estimate by it. An open job's `error` says why its last try was postponed.
    """

    id: Id
    kind: str
    status: JobStatus
    stage: str
    knowledge_base_id: Id | None
    progress: Progress
    rate: float | None
    seconds_left: float | None
    error: Problem | None
    generation: Annotated[int | None, Field(description="all that is done is searchable from this generation of the knowledge base on")]
    tries: Annotated[int, Field(description="slices begun since the last progress")]
    created_by: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The job as it is shown."""
        progress = Progress(
            done=job.settled_count,
            total=max(job.total_count, job.settled_count),
            succeeded=job.done_count,
            skipped=job.skipped_count,
            failed=job.failed_count,
            quarantined=job.quarantined_count,
        )
        same = ("id", "kind", "status", "stage", "knowledge_base_id", "generation", "tries", "created_by")
        times = ("created_at", "started_at", "updated_at", "finished_at")
        return cls(
            **{name: getattr(job, name) for name in (*same, *times)},
            progress=progress,
            rate=_rounded(job.rate),
            seconds_left=_rounded(job.seconds_left),
            error=Problem(code=job.error_code, message=job.error_message or "") if job.error_code else None,
        )


class JobAccepted(Schema):
    """The job that does what was asked for."""

    job: JobOut


class BadLineOut(Schema):
    """A line that was no record, by its number in the file, from 1 on."""

    line: int
    message: str


class LinesOut(Schema):
    """What became of the lines of a part of a file of records; the first 20 bad ones are told."""

    read: int
    added: int
    replaced: int
    unchanged: int
    bad: int
    problems: tuple[BadLineOut, ...]


class ItemOut(Schema):
    """One item of a job. `waiting` becomes `done`, `skipped` (nothing to do), `failed` (can't be, with the reason) or `quarantined`
    (three tries ended or outlasted the process that read it). Items a cancelled job did not come to are `skipped`.
    """

    id: Id
    name: str
    action: Literal["add", "replace"]
    status: ItemStatus
    attempts: int
    document_id: str | None
    size_bytes: int
    error: Problem | None
    retryable: bool
    generation: int | None
    lines: LinesOut | None
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job, item: JobItem) -> Self:
        """The item as it is shown."""
        dropped = item.status == "waiting" and job.status == "cancelled"
        problem = Problem(code=item.error_code, message=item.error_message or "") if item.error_code else None
        same = ("id", "name", "action", "attempts", "document_id", "generation", "created_at", "finished_at")
        shown: dict[str, Any] = {name: getattr(item, name) for name in same}
        return cls(
            **shown,
            status="skipped" if dropped else item.status,
            size_bytes=item.original_bytes,
            lines=LinesOut.model_validate(item.spec["lines"], extra="ignore", strict=False) if "lines" in item.spec else None,
            error=Problem(code="cancelled", message="the job was cancelled before it came to this") if dropped else problem,
            retryable=item.retryable and item.status in ("waiting", "failed", "quarantined"),
        )


class RunQuery(Schema):
    """How long to work."""

    seconds: Annotated[float, Field(ge=0, le=240, description="no new step is begun after this time")] = 50


class RunOut(Schema):
    """What a call of the scheduler did: slices of work, and whether jobs are open still."""

    slices: int
    open: bool


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
