"""HTTP routes of jobs: progress, results, cancel, retry, and the scheduler's push."""

from __future__ import annotations

import time
from typing import Final

from flask import Blueprint

from agenthub.jobs.runner import Runner
from agenthub.repositories.base import Page, all_of, any_of, equal_if
from agenthub.repositories.knowledge.job_requests import JobRequests
from agenthub.repositories.knowledge.jobs import JobItemRepository, JobRepository
from agenthub.services.knowledge.document_processing.job_schemas import (
    GROUPS,
    ItemOut,
    JobListQuery,
    JobOut,
    RunOut,
    RunQuery,
)
from agenthub.web.access import jobs, principal, repository, resources
from agenthub.web.declare import requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("jobs", __name__)
LEAST_SLICE_SECONDS: Final = 1.0


@bp.get("")
@requires("jobs:read")
@takes(JobListQuery)
@returns(ListOf[JobOut])
def list_jobs(query: JobListQuery) -> Page[JobOut]:
    """The organization's jobs, newest first. `?status=dead` lists those that ended with something undone, each with its reason."""
    status = any_of("status", GROUPS.get(query.status, (query.status,))) if query.status else None
    where = all_of(status, equal_if("knowledge_base_id", query.knowledge_base_id))
    page = repository(JobRepository).page(principal().tenant_id, where=where, limit=query.limit, cursor=query.cursor)
    return Page(tuple(JobOut.of(job) for job in page.items), page.next_cursor)


@bp.get("/<job_id>")
@requires("jobs:read")
@returns(JobOut)
def get_job(job_id: str) -> JobOut:
    """One job, with its progress."""
    return JobOut.of(repository(JobRepository).get(principal().tenant_id, job_id))


@bp.get("/<job_id>/items")
@requires("jobs:read")
@takes(PageQuery)
@returns(ListOf[ItemOut])
def list_job_items(job_id: str, query: PageQuery) -> Page[ItemOut]:
    """What became of each item of a job, in the order they came in."""
    job = repository(JobRepository).get(principal().tenant_id, job_id)
    page = repository(JobItemRepository).page_of(job, limit=query.limit, cursor=query.cursor)
    return Page(tuple(ItemOut.of(job, item) for item in page.items), page.next_cursor)


@bp.post("/<job_id>/cancel")
@requires("jobs:write")
@returns(JobOut)
def cancel_job(job_id: str) -> JobOut:
    """End an open job at once: nothing more of it is committed. What is done stays."""
    return JobOut.of(repository(JobRequests).cancel(principal().tenant_id, job_id))


@bp.post("/<job_id>/retry")
@requires("jobs:write")
@returns(JobOut)
def retry_job(job_id: str) -> JobOut:
    """Queue an ended job again for what can be tried again: what it did not come to, and what is in quarantine."""
    job = repository(JobRequests).retry(principal().tenant_id, job_id)
    jobs().notice()
    return JobOut.of(job)


@bp.post("/run")
@requires("jobs:run")
@takes(RunQuery)
@returns(RunOut)
def run_jobs(query: RunQuery) -> RunOut:
    """Work on open jobs of the deployment for some time: for a scheduler, where no process may work between requests."""
    runner = Runner(resources())
    end, slices = time.monotonic() + query.seconds, 0
    while (left := end - time.monotonic()) >= min(LEAST_SLICE_SECONDS, query.seconds) and runner.run_once(left):
        slices += 1
    runner.tidy()
    return RunOut(slices=slices, open=runner.queue.anything_open())
