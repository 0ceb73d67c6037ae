"""Who works on which job: leases by the database's clock, fair turns, checkpoints and the end.

A lease is a fence, drawn anew with every taking, and a time. Every write of a runner carries `held`: its fence still stands in the
row and its time isn't over, or the whole commit is refused. So a runner that was frozen, cut off or given up for dead changes
nothing, and cancelling a job is taking its lease away.

Turns are fair: the organization whose last turn is longest ago comes first, and within it the job whose `turn_at` is oldest. A new job
starts with some seconds' advantage, so that an upload of one page need not wait for one of a thousand, and the large one still
gets its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import LeaseLost, NotFound, VersionConflict
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.core.types import EVERY_TENANT, TenantId
from agenthub.repositories.knowledge.jobs import (
    OPEN,
    SETTLED,
    STATUSES,
    Job,
    JobItemRepository,
    JobRepository,
    JobStatus,
    job_noted,
    of_job,
)
from agenthub.storage.contract import (
    MAX_PAGE,
    And,
    Compare,
    DbNow,
    Delete,
    DeleteWhere,
    Insert,
    Order,
    Query,
    Storage,
    Table,
    Update,
    Write,
)

LEASE_SECONDS: Final = 30.0
"""How long a runner that died keeps others from its job. Living ones renew theirs."""
NEW_JOB_ADVANTAGE_SECONDS: Final = 60.0
RETENTION_SECONDS: Final = 30 * 86_400.0
"""How long a finished job is remembered."""
_COUNTS: Final = ("total_count", *(f"{status}_count" for status in SETTLED))
_SEEN: Final = 64
"""Runnable jobs of one organization that are looked at for one slice."""


@dataclass(frozen=True, slots=True)
class JobTurn:
    """An organization with open jobs: when one of them was last worked on, and when one was made. The id is the organization's."""

    id: str
    tenant_id: TenantId
    served_at: datetime
    noted_at: datetime
    version: int = 1


TURNS: Final = Table.of("job_turns", JobTurn, indexes=[("served_at", "id")])


@dataclass(frozen=True, slots=True)
class Leased:
    """A job as it was when its lease was taken."""

    job: Job
    fence: str


def held(leased: Leased, **changes: Any) -> Update:
    """The write that changes a job if, and only if, the lease still stands: the fence in every commit of a runner."""
    stands = And((Compare("fence", "eq", leased.fence), Compare("lease_until", "gt", DbNow())))
    return Update(JobRepository.table, leased.job.tenant_id, leased.job.id, {"updated_at": DbNow(), **changes}, None, stands)


def queueing(tenant_id: TenantId, now: datetime) -> list[Write]:
    """The writes that let an organization have turns; in the commit that makes, or reopens, one of its jobs."""
    row = {"id": tenant_id, "tenant_id": tenant_id, "served_at": now, "noted_at": now, "version": 1}
    # The update changes the version, which keeps a runner that saw no job a moment ago from ending the turns.
    return [Insert(TURNS, row, ignore_existing=True), Update(TURNS, tenant_id, tenant_id, {"noted_at": now})]


@dataclass(frozen=True, slots=True)
class Standing:
    """How jobs of the whole deployment stand: how many of each status, and how long the oldest open one has been open."""

    counts: Mapping[str, int]
    oldest_seconds: float


class JobQueue:
    """Takes, renews and gives back leases; ends and forgets jobs."""

    def __init__(self, storage: Storage, lease_seconds: float = LEASE_SECONDS) -> None:
        self._storage = storage
        self._jobs = JobRepository(storage)
        self._items = JobItemRepository(storage)
        self.lease_seconds = lease_seconds

    # --- leases ---

    def take(self, together: Mapping[str, int], *, besides: TenantId | None = None) -> list[Leased]:
        """The lease of the job whose turn it is; empty when none is due.

        `together` names the kinds this runner can do, and how many items of several jobs one slice of it may have: then more
        jobs of the same kind and knowledge base come along. `besides` passes over that organization, and over those that a runner
        works for now.
        """
        for tenant_id, version in self._turns():
            if besides is not None and (tenant_id == besides or self._served(tenant_id)):
                continue
            runnable = self._runnable(tenant_id, tuple(together))
            for index, first in enumerate(runnable):
                group = _group(first, runnable[index + 1 :], together[first.kind])
                taken = self._taken(group) or (self._taken([first]) if len(group) > 1 else [])
                if taken:
                    return taken
            if not runnable:
                self._end_turns(tenant_id, version)
        return []

    def renew(self, leases: Sequence[Leased]) -> None:
        """Hold the leases for their whole time from now on; those that were lost stay lost.

        In one commit while all stand: where a commit takes seconds, the last of many would run out before its turn.
        """
        writes = {leased.fence: held(leased, lease_until=DbNow(self.lease_seconds)) for leased in leases}
        if not writes:
            return
        try:
            self._storage.commit(list(writes.values()))
        except (VersionConflict, NotFound):
            for leased in leases:
                self.write(leased, writes[leased.fence], quiet=True)

    def write(self, leased: Leased, *writes: Write, quiet: bool = False) -> None:
        """Commit writes that begin with this lease's `held`.

        Raises: LeaseLost, unless `quiet`, when the lease no longer stands.
        """
        try:
            self._storage.commit(list(writes))
        except (VersionConflict, NotFound) as error:
            if not quiet:
                raise LeaseLost(f"job {leased.job.id} is no longer this runner's") from error

    def check(self, leased: Leased) -> Job:
        """The job as it is now.

        Raises: LeaseLost when another has it, or it was cancelled.
        """
        job = self._jobs.find(leased.job.tenant_id, leased.job.id)
        if job is None or job.fence != leased.fence or job.lease_until <= self._storage.now():
            raise LeaseLost(f"job {leased.job.id} is no longer this runner's")
        return job

    def refreshed(self, leased: Leased) -> Leased:
        """The lease with its job as it is now. Raises: LeaseLost."""
        return Leased(self.check(leased), leased.fence)

    def release(self, leased: Leased, seconds: float) -> None:
        """Give the lease of a job back that can go on at once, after so many seconds of work; nothing when it was lost.

        The slice ended in order, so its try was none.
        """
        with suppress(LeaseLost):
            job = self.check(leased)
            self._give_back(leased, job, seconds, due_at=DbNow(), tries=max(0, job.tries - 1))

    def postpone(self, leased: Leased, pause: Callable[[int], float], code: str, message: str, seconds: float) -> None:
        """Give the lease back and let nobody take the job for a while: `pause` makes seconds of the number of tries."""
        with suppress(LeaseLost):
            job = self.check(leased)
            self._give_back(leased, job, seconds, due_at=DbNow(pause(job.tries)), error_code=code, error_message=message)

    def _give_back(self, leased: Leased, job: Job, seconds: float, **changes: Any) -> None:
        self.write(leased, held(leased, fence="", lease_until=DbNow(), worked_seconds=job.worked_seconds + seconds, **changes))

    def anything_open(self) -> bool:
        """Whether some organization has turns: it has, or a moment ago had, jobs that are not ended."""
        return bool(self._storage.find(TURNS, EVERY_TENANT, Query(limit=1)))

    def others_wait(self, leases: Sequence[Leased]) -> bool:
        """Whether a job that is due has no runner, while these are worked on: then long slices end early."""
        kinds = And((Compare("status", "in", OPEN), Compare("due_at", "le", DbNow()), Compare("lease_until", "le", DbNow())))
        rows = self._storage.find(JobRepository.table, EVERY_TENANT, Query(kinds, (Order("turn_at"),), len(leases) + 1))
        return any(row["id"] not in {leased.job.id for leased in leases} for row in rows)

    def standing(self) -> Standing:
        """How jobs stand now."""
        counts: dict[str, int] = {
            status: self._storage.count(JobRepository.table, EVERY_TENANT, Compare("status", "eq", status)) for status in STATUSES
        }
        open_jobs = Query(Compare("status", "in", OPEN), (Order("created_at"),), 1)
        oldest = self._storage.find(JobRepository.table, EVERY_TENANT, open_jobs)
        return Standing(counts, (self._storage.now() - oldest[0]["created_at"]).total_seconds() if oldest else 0.0)

    def _turns(self) -> Iterator[tuple[TenantId, int]]:
        after: tuple[Any, ...] | None = None
        while True:
            rows = self._storage.find(TURNS, EVERY_TENANT, Query(order=(Order("served_at"),), limit=_SEEN, after=after))
            yield from ((TenantId(row["id"]), int(row["version"])) for row in rows)
            if len(rows) < _SEEN:
                return
            after = (rows[-1]["served_at"], rows[-1]["id"])

    def _runnable(self, tenant_id: TenantId, kinds: tuple[str, ...]) -> list[Job]:
        due = And(
            (
                Compare("status", "in", OPEN),
                Compare("kind", "in", kinds),
                Compare("due_at", "le", DbNow()),
                Compare("lease_until", "le", DbNow()),
            )
        )
        rows = self._storage.find(JobRepository.table, tenant_id, Query(due, (Order("turn_at"),), _SEEN))
        return [JobRepository.from_row(row) for row in rows]

    def _served(self, tenant_id: TenantId) -> bool:
        now = And((Compare("status", "in", OPEN), Compare("lease_until", "gt", DbNow())))
        return bool(self._storage.find(JobRepository.table, tenant_id, Query(now, limit=1)))

    def _taken(self, jobs: Sequence[Job]) -> list[Leased]:
        """The leases of all these jobs, or of none."""
        leases = [Leased(job, random_name()) for job in jobs]
        tenant_id = jobs[0].tenant_id
        writes: list[Write] = [Update(TURNS, tenant_id, tenant_id, {"served_at": DbNow()})]
        writes += [self._taking(leased) for leased in leases]
        try:
            rows = self._storage.commit(writes)
        except (VersionConflict, NotFound):
            return []
        failpoint("job.taken")
        return [Leased(JobRepository.from_row(row), leased.fence) for row, leased in zip(rows[1:], leases, strict=True) if row]

    def _taking(self, leased: Leased) -> Update:
        job = leased.job
        changes = {
            "fence": leased.fence,
            "lease_until": DbNow(self.lease_seconds),
            "status": "running",
            "stage": "working",
            "tries": job.tries + 1,
            "turn_at": DbNow(),
            "updated_at": DbNow(),
            "started_at": job.started_at or DbNow(),
        }
        free = And((Compare("status", "in", OPEN), Compare("lease_until", "le", DbNow()), Compare("fence", "eq", job.fence)))
        return Update(JobRepository.table, job.tenant_id, job.id, changes, None, free)

    def _end_turns(self, tenant_id: TenantId, version: int) -> None:
        """Take an organization without open jobs out of the order, unless one was made meanwhile."""
        if self._storage.count(JobRepository.table, tenant_id, Compare("status", "in", OPEN)):
            return
        try:
            self._storage.commit([Delete(TURNS, tenant_id, tenant_id, version, missing_ok=True)])
        except VersionConflict:
            return

    # --- the end ---

    def finish(self, leased: Leased, seconds: float) -> None:
        """End a job of which nothing is left, its counts made anew from its items; nothing when the lease was lost."""
        with suppress(LeaseLost):
            job = self._recounted(self.check(leased))
            counts = {name: getattr(job, name) for name in _COUNTS}
            self.write(leased, *closing(leased, job, self._storage.now(), job.worked_seconds + seconds, **counts))

    def fail(self, leased: Leased, code: str, message: str) -> None:
        """End a job that can't go on; what it did stays, and it can be retried. Nothing when the lease was lost."""
        with suppress(LeaseLost):
            job = self._recounted(self.check(leased))
            changes = {"error_code": code, "error_message": message, "status": "partly" if job.done_count else "failed"}
            self.write(leased, *closing(leased, job, self._storage.now(), job.worked_seconds, **changes))

    def _recounted(self, job: Job) -> Job:
        counted: dict[str, Any] = {
            f"{status}_count": self._items.count(job.tenant_id, of_job(job, Compare("status", "eq", status))) for status in SETTLED
        }
        return replace(job, total_count=self._items.count(job.tenant_id, of_job(job)), **counted)

    def sweep(self) -> int:
        """Forget jobs whose retention is over; how many."""
        due = Query(Compare("expires_at", "le", DbNow()), (), MAX_PAGE)
        rows = self._storage.find(JobRepository.table, EVERY_TENANT, due)
        for row in rows:
            job = JobRepository.from_row(row)
            gone = Delete(JobRepository.table, job.tenant_id, job.id, job.version, missing_ok=True)
            try:
                self._storage.commit([DeleteWhere(JobItemRepository.table, job.tenant_id, of_job(job)), gone])
            except VersionConflict:
                continue  # it was retried at the last moment
        return len(rows)


def _group(first: Job, others: Sequence[Job], most_items: int) -> list[Job]:
    """The job and those that may share its slice, in order, while they are small."""
    group, items = [first], first.total_count
    for job in others:
        if _alike(job, first) and items + job.total_count <= most_items:
            group.append(job)
            items += job.total_count
    return group


def _alike(one: Job, other: Job) -> bool:
    """Whether commits of one may be commits of the other: for the same knowledge base and in the same name."""
    names = ("kind", "knowledge_base_id", "actor_kind", "actor_id")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def closing(leased: Leased, job: Job, now: datetime, worked_seconds: float, **more: Any) -> list[Write]:
    """The writes that end a job whose items have these counts, under its lease; the first one is `held`."""
    changes = {**_ending(job), "worked_seconds": worked_seconds, **more}
    counted = job_noted(replace(job, worked_seconds=worked_seconds), changes["status"], now)
    return [held(leased, **changes), counted]


def _ending(job: Job) -> dict[str, Any]:
    return {
        "status": _final_status(job),
        "stage": "finished",
        "finished_at": DbNow(),
        "expires_at": DbNow(RETENTION_SECONDS),
        "fence": "",
        "lease_until": DbNow(),
        "tries": 0,
    }


def _final_status(job: Job) -> JobStatus:
    bad = job.failed_count + job.quarantined_count
    if not bad:
        return "succeeded"
    return "partly" if job.done_count or job.skipped_count else "failed"
