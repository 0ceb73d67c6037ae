"""What people do with jobs that are there: cancel them, and try again what failed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from agenthub.core.errors import Conflict, VersionConflict
from agenthub.core.types import TenantId
from agenthub.repositories.knowledge.job_queue import NEW_JOB_ADVANTAGE_SECONDS, RETENTION_SECONDS, queueing
from agenthub.repositories.knowledge.jobs import OPEN, SETTLED, Job, JobItem, JobItemRepository, JobRepository, job_noted, of_job
from agenthub.storage.contract import Compare, Update

_ATTEMPTS: Final = 8


class JobRequests(JobRepository):
    """Jobs, for those who asked for them."""

    def cancel(self, tenant_id: TenantId, key: str) -> Job:
        """End an open job now: its runner has no lease any more and can commit nothing. What is done stays.

        Raises: NotFound; Conflict when it has ended otherwise.
        """
        for _ in range(_ATTEMPTS):
            job = self.get(tenant_id, key)
            if job.status == "cancelled":
                return job
            if job.finished:
                raise Conflict(f"this job has ended: {job.status}")
            try:
                over = self._cancelled()
                counted = job_noted(job, "cancelled", over["finished_at"])
                return self.update(tenant_id, key, over, counted, where=Compare("status", "in", OPEN), verb="cancel")
            except VersionConflict:
                continue  # its runner wrote a checkpoint meanwhile
        raise VersionConflict("this job moves too fast; try again")

    def _cancelled(self) -> dict[str, Any]:
        now = self.now()
        over = {"status": "cancelled", "stage": "finished", "finished_at": now, "expires_at": now + timedelta(seconds=RETENTION_SECONDS)}
        return {**over, "fence": "", "lease_until": now, "tries": 0, "updated_at": now}

    def retry(self, tenant_id: TenantId, key: str) -> Job:
        """Queue an ended job again, for what can be tried again: items in quarantine, and those it never came to.

        One that is open and was postponed is due now. Raises: NotFound; Conflict when nothing is left that makes sense to try.
        """
        job = self.get(tenant_id, key)
        if not job.finished:
            return self.update(tenant_id, key, {"due_at": self.now()}, verb="retry")
        items = JobItemRepository(self._storage)
        while again := items.retryable_of(job):
            self._storage.commit([_anew(item) for item in again])
        counts = self._counts(items, job)
        if sum(counts.values()) >= items.count(tenant_id, of_job(job)) and not job.state.get("unfinished"):
            raise Conflict("nothing of this job can be tried again: send what failed anew")
        return self._reopen(job, counts)

    def _counts(self, items: JobItemRepository, job: Job) -> dict[str, int]:
        return {f"{status}_count": items.count(job.tenant_id, of_job(job, Compare("status", "eq", status))) for status in SETTLED}

    def _reopen(self, job: Job, counts: dict[str, int]) -> Job:
        now = self.now()
        changes: dict[str, Any] = {
            **counts,
            "status": "queued",
            "stage": "waiting",
            "tries": 0,
            "error_code": None,
            "error_message": None,
            "finished_at": None,
            "expires_at": None,
            "due_at": now,
            "turn_at": now - timedelta(seconds=NEW_JOB_ADVANTAGE_SECONDS),
            "updated_at": now,
        }
        again = [*queueing(job.tenant_id, now), job_noted(job, "retried", now)]
        return self.update(job.tenant_id, job.id, changes, *again, expected_version=job.version, verb="retry")


def _anew(item: JobItem) -> Update:
    changes = {"status": "waiting", "attempts": 0, "error_code": None, "error_message": None, "finished_at": None}
    return Update(JobItemRepository.table, item.tenant_id, item.id, changes, item.version)
