"""Leases, fences, turns and the end of jobs, on every backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from agenthub.core.errors import Conflict, LeaseLost, NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT, KnowledgeBaseId, TenantId
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.volume import Volume
from agenthub.repositories.knowledge.job_queue import TURNS, JobQueue, held
from agenthub.repositories.knowledge.job_requests import JobRequests
from agenthub.repositories.knowledge.jobs import Job, JobItemRepository, JobRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.submitting import ItemDraft, Submissions
from agenthub.repositories.tables import TABLES
from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import DbNow, Storage, Update
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables
from tests.repositories.knowledge.world import MemoryDisk, World

KINDS = {"upload": 8}

SERVERS = {"postgresql": "postgresql_database", "bigquery": "bigquery_url"}


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql", "bigquery"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder: Path = tmp_path_factory.mktemp("jobs")
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/jobs.sqlite3"}
    url = urls.get(request.param) or str(request.getfixturevalue(SERVERS[request.param]))
    opened = open_storage(parse_storage_url(url), Flask("jobs"))
    create_tables(opened, TABLES)
    yield opened
    opened.close()


class Desk:
    """Makes jobs of new organizations, and ends all that are open afterwards."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.engine = KnowledgeEngine(Volume(Path("/volume"), mapping="never", disk=MemoryDisk()), RagSettings())
        self.submissions = Submissions(storage, self.engine)
        self.jobs = JobRepository(storage)
        self.items = JobItemRepository(storage)

    def base(self, tenant_id: TenantId | None = None) -> KnowledgeBase:
        base = replace(World().create().base, id=KnowledgeBaseId(new_id()), tenant_id=tenant_id or TenantId(new_id()), name_key=new_id())
        return KnowledgeBaseRepository(self.storage).create(base)

    def job(self, base: KnowledgeBase, count: int = 1, kind: str = "upload") -> Job:
        drafts = [ItemDraft(f"file {number}", b"text") for number in range(count)]
        return self.submissions.submit(base, kind, drafts, "someone", lambda _: None).job

    def change(self, job: Job, **changes: Any) -> None:
        self.storage.commit([Update(JobRepository.table, job.tenant_id, job.id, changes)])


@pytest.fixture
def desk(storage: Storage) -> Iterator[Desk]:
    made = Desk(storage)
    yield made
    for status in ("queued", "running"):
        for job in made.jobs.page(EVERY_TENANT, limit=200).items:
            if job.status == status:
                JobRequests(storage).cancel(job.tenant_id, job.id)


def test_a_job_is_kept_with_its_items_and_files(desk: Desk) -> None:
    job = desk.job(desk.base(), 3)
    items = desk.items.page_of(job).items
    assert [item.name for item in items] == ["file 0", "file 1", "file 2"]
    assert len({item.document_id for item in items}) == 3
    assert desk.engine.read_original(str(job.knowledge_base_id), items[0].original) == b"text"
    assert (job.status, job.total_count, job.settled_count) == ("queued", 3, 0)


def test_one_runner_has_a_job_and_a_second_has_none(desk: Desk) -> None:
    job = desk.job(desk.base())
    first, second = JobQueue(desk.storage), JobQueue(desk.storage)
    [leased] = first.take(KINDS)
    assert leased.job.id == job.id
    assert (leased.job.status, leased.job.tries) == ("running", 1)
    assert second.take(KINDS) == []
    first.release(leased, 1.5)
    [again] = second.take(KINDS)
    assert again.fence != leased.fence
    assert (again.job.tries, again.job.worked_seconds) == (1, 1.5)


def test_a_lease_that_ran_out_is_fenced_off(desk: Desk) -> None:
    desk.job(desk.base())
    short = JobQueue(desk.storage, lease_seconds=0.2)
    [old] = short.take(KINDS)
    time.sleep(0.3)
    [new] = JobQueue(desk.storage).take(KINDS)
    assert new.job.tries == 2, "the first try did not end in order"
    for write in (lambda: short.write(old, held(old, stage="mine")), lambda: short.check(old)):
        with pytest.raises(LeaseLost):
            write()
    short.renew([old])
    short.release(old, 1.0)
    short.finish(old, 1.0)
    assert desk.jobs.get(new.job.tenant_id, new.job.id).fence == new.fence


def a_second(desk: Desk) -> float:
    """As long, in seconds, as makes a commit seem quick: BigQuery's emulator takes a second or several for one."""
    return 30.0 if desk.storage.backend == "bigquery" else 1.0


def test_a_renewed_lease_lasts(desk: Desk) -> None:
    desk.job(desk.base())
    second = a_second(desk)
    queue = JobQueue(desk.storage, lease_seconds=second)
    [leased] = queue.take(KINDS)
    for _ in range(4):
        time.sleep(0.4 * second)
        queue.renew([leased])
    assert queue.check(leased).fence == leased.fence


def test_leases_are_renewed_together_and_a_lost_one_keeps_none_from_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    base = desk.base()
    jobs = [desk.job(base), desk.job(base), desk.job(base)]
    queue = JobQueue(desk.storage, lease_seconds=600)
    leases = queue.take(KINDS)
    assert len(leases) == len(jobs)
    commits, real = [], desk.storage.commit

    def counted(writes: Any) -> Any:
        commits.append(len(writes))
        return real(writes)

    monkeypatch.setattr(desk.storage, "commit", counted)
    queue.renew(leases)
    assert commits == [3]
    JobRequests(desk.storage).cancel(jobs[1].tenant_id, leases[1].job.id)
    before = [desk.jobs.get(leased.job.tenant_id, leased.job.id).lease_until for leased in leases]
    queue.renew(leases)
    after = [desk.jobs.get(leased.job.tenant_id, leased.job.id).lease_until for leased in leases]
    assert [one > other for one, other in zip(after, before, strict=True)] == [True, False, True]
    queue.renew([])


def test_small_jobs_of_one_knowledge_base_share_a_slice(desk: Desk) -> None:
    base = desk.base()
    other = desk.base(base.tenant_id)
    jobs = [desk.job(base, 3), desk.job(base, 3), desk.job(other), desk.job(base, 3), desk.job(base, 1)]
    taken = JobQueue(desk.storage).take(KINDS)
    assert [leased.job.id for leased in taken] == [jobs[0].id, jobs[1].id, jobs[4].id], "8 items at most, of one knowledge base"


def test_organizations_take_turns(desk: Desk) -> None:
    busy, quiet = desk.base(), desk.base()
    for _ in range(4):
        desk.job(busy, 8)
    queue = JobQueue(desk.storage)
    served = [queue.take(KINDS)[0].job.tenant_id]
    desk.job(quiet, 8)
    served += [queue.take(KINDS)[0].job.tenant_id for _ in range(2)]
    assert quiet.tenant_id in served[1:], "one that came later need not wait for all of the other's"


def test_a_new_small_job_comes_before_the_rest_of_a_long_one(desk: Desk) -> None:
    base = desk.base()
    long = desk.job(base, 50)
    queue = JobQueue(desk.storage)
    [leased] = queue.take(KINDS)
    assert leased.job.id == long.id
    small = desk.job(desk.base(base.tenant_id))
    assert queue.others_wait([leased])
    queue.release(leased, 0)
    assert [one.job.id for one in queue.take(KINDS)] == [small.id]
    assert [one.job.id for one in queue.take(KINDS)] == [long.id]


def test_a_long_job_is_not_starved_by_new_ones(desk: Desk) -> None:
    base = desk.base()
    long = desk.job(base, 50)
    desk.change(long, turn_at=DbNow(-100))
    desk.job(desk.base(base.tenant_id))
    assert JobQueue(desk.storage).take(KINDS)[0].job.id == long.id


def test_postponed_jobs_wait(desk: Desk) -> None:
    desk.job(desk.base())
    queue = JobQueue(desk.storage)
    [leased] = queue.take(KINDS)
    second = a_second(desk)
    queue.postpone(leased, lambda tries: 0.3 * second * tries, "provider_failure", "it is down", second)
    assert queue.take(KINDS) == []
    time.sleep(0.4 * second)
    [again] = queue.take(KINDS)
    assert (again.job.tries, again.job.error_message) == (2, "it is down")


def test_unknown_kinds_are_left_to_other_releases(desk: Desk) -> None:
    desk.job(desk.base(), kind="from the future")
    assert JobQueue(desk.storage).take(KINDS) == []


def test_cancelling_takes_the_lease_away(desk: Desk) -> None:
    job = desk.job(desk.base(), 2)
    queue = JobQueue(desk.storage)
    [leased] = queue.take(KINDS)
    cancelled = JobRequests(desk.storage).cancel(job.tenant_id, job.id)
    assert (cancelled.status, cancelled.finished) == ("cancelled", True)
    with pytest.raises(LeaseLost):
        queue.write(leased, held(leased, stage="on"))
    assert JobRequests(desk.storage).cancel(job.tenant_id, job.id).status == "cancelled"
    retried = JobRequests(desk.storage).retry(job.tenant_id, job.id)
    assert (retried.status, retried.finished_at) == ("queued", None)
    assert [one.job.id for one in queue.take(KINDS)] == [job.id]


def test_ended_jobs_are_neither_cancelled_nor_tried_again(desk: Desk) -> None:
    job = desk.job(desk.base(), 0)
    queue = JobQueue(desk.storage)
    [leased] = queue.take(KINDS)
    queue.finish(leased, 0.5)
    ended = desk.jobs.get(job.tenant_id, job.id)
    assert (ended.status, ended.stage, ended.worked_seconds) == ("succeeded", "finished", 0.5)
    with pytest.raises(Conflict):
        JobRequests(desk.storage).cancel(job.tenant_id, job.id)
    with pytest.raises(Conflict, match="nothing"):
        JobRequests(desk.storage).retry(job.tenant_id, job.id)


def test_turns_end_with_the_last_job_and_begin_with_the_next(desk: Desk) -> None:
    base = desk.base()
    queue = JobQueue(desk.storage)
    for _ in range(2):
        desk.job(base, 0)
        [leased] = queue.take(KINDS)
        queue.finish(leased, 0.0)
        assert queue.take(KINDS) == []
        assert desk.storage.get(TURNS, base.tenant_id, base.tenant_id) is None


def test_jobs_are_forgotten_after_their_retention(desk: Desk) -> None:
    job = desk.job(desk.base(), 0)
    queue = JobQueue(desk.storage)
    queue.finish(queue.take(KINDS)[0], 0.0)
    queue.sweep()
    desk.jobs.get(job.tenant_id, job.id)
    desk.change(job, expires_at=DbNow(-1))
    assert queue.sweep() == 1
    with pytest.raises(NotFound):
        desk.jobs.get(job.tenant_id, job.id)
    assert desk.items.page_of(job).items == ()


def test_a_second_runner_passes_over_organizations_that_are_worked_for(desk: Desk) -> None:
    busy, quiet = desk.base(), desk.base()
    first = desk.job(busy, 8)
    desk.job(busy, 8)
    queue = JobQueue(desk.storage)
    [leased] = queue.take(KINDS)
    assert leased.job.id == first.id
    assert queue.take(KINDS, besides=TenantId(new_id())) == []
    job = desk.job(quiet)
    assert [one.job.id for one in queue.take(KINDS, besides=busy.tenant_id)] == [job.id]
    queue.release(leased, 0.1)
    assert queue.take(KINDS, besides=busy.tenant_id) == []
    assert queue.take(KINDS, besides=quiet.tenant_id)[0].job.tenant_id == busy.tenant_id
