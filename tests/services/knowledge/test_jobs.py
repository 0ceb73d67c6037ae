"""Jobs over HTTP: accepted at once, worked on by runners of every kind, and always ended."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthub.core import failpoints
from agenthub.core.errors import ParserDied
from agenthub.core.ids import new_id
from agenthub.jobs.preparing import read_and_cut
from agenthub.jobs.runner import MOST_TRIES, Runner
from agenthub.repositories.knowledge.job_queue import JobQueue
from tests.api import Api, make_app

DOCUMENTS = Path(__file__).parents[4] / "shared" / "data" / "documents"
READING = "agenthub.jobs.pipeline.read_and_cut"
SERVICES = "knowledge.*,platform.authentication,platform.logging"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """An application whose jobs only the tests work on."""
    folder: Path = tmp_path_factory.mktemp("jobs")
    database = f"sqlite:///{folder}/agenthub.sqlite3"
    return Api(make_app(folder, database, AGENTHUB_SERVICES=SERVICES, AGENTHUB_JOBS="off")).login()


@pytest.fixture
def base(api: Api) -> Iterator[str]:
    created = api.post("/api/knowledge-bases", {"name": new_id()}, 201)
    yield f"/api/knowledge-bases/{created['id']}"
    failpoints.arm("")
    for job in api.get("/api/jobs?status=open&limit=200")["items"]:
        api.post(f"/api/jobs/{job['id']}/cancel")


def accepted(api: Api, base: str, *texts: str, wait: float = 0, **arguments: Any) -> Any:
    """The job of an upload of these texts."""
    files = [(io.BytesIO(text.encode()), f"note {number}.txt") for number, text in enumerate(texts)]
    sent = {"data": {"files": files}, "content_type": "multipart/form-data"} | arguments
    return api.call("POST", f"{base}/documents?wait={wait}", 202, **sent)["job"]


def runner(api: Api, lease_seconds: float = 30.0) -> Runner:
    resources = api.app.extensions["agenthub"]
    return Runner(resources, JobQueue(resources.storage, lease_seconds))


def job_of(api: Api, job: Any) -> Any:
    return api.get(f"/api/jobs/{job['id']}")


def titles(api: Api, base: str) -> list[str]:
    return sorted(item["title"] for item in api.get(f"{base}/documents?limit=200")["items"])


def test_an_upload_is_accepted_at_once_and_done_by_a_runner(api: Api, base: str) -> None:
    job = accepted(api, base, "One text.", "Another text.")
    assert (job["status"], job["kind"], job["progress"]["done"], job["progress"]["total"]) == ("queued", "upload", 0, 2)
    assert api.get(base)["document_count"] == 0
    assert runner(api).run_once()
    job = job_of(api, job)
    assert (job["status"], job["progress"]["succeeded"], job["generation"]) == ("succeeded", 2, 2), "both in one generation"
    items = api.get(f"/api/jobs/{job['id']}/items")["items"]
    assert [(item["name"], item["status"], item["generation"]) for item in items] == [("note 0.txt", "done", 2), ("note 1.txt", "done", 2)]
    assert {item["document_id"] for item in items} == {item["id"] for item in api.get(f"{base}/documents")["items"]}
    assert not runner(api).run_once()


def test_the_schedulers_push_works_on_jobs(api: Api, base: str) -> None:
    job = accepted(api, base, "A text.")
    assert api.post("/api/jobs/run?seconds=20") == {"slices": 1, "open": False}
    assert job_of(api, job)["status"] == "succeeded"


def test_who_waits_is_answered_as_soon_as_it_is_done(api: Api, base: str) -> None:
    worker = threading.Timer(0.3, lambda: runner(api).run_once())
    worker.start()
    document = api.post(f"{base}/documents?wait=30", {"title": "a", "text": "Soon there."}, 201)
    assert document["generation"] == 2
    worker.join()


def test_uploads_that_wait_share_a_generation(api: Api, base: str) -> None:
    for number in range(20):
        accepted(api, base, f"Small text number {number}.")
    assert runner(api).run_once()
    assert (api.get(base)["document_count"], api.get(base)["generation"]) == (20, 2)


def test_a_repeat_meets_the_job_of_the_first(api: Api, base: str) -> None:
    send = {"json": {"title": "a", "text": "only once"}, "headers": {"Idempotency-Key": new_id()}}
    first = api.send("POST", f"{base}/documents?wait=0", **send)
    again = api.send("POST", f"{base}/documents?wait=0.1", **send)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json()["job"]["id"] == again.get_json()["job"]["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Location"] == f"/api/jobs/{first.get_json()['job']['id']}"
    runner(api).run_once()
    done = api.send("POST", f"{base}/documents?wait=0", **send)
    late = api.send("POST", f"{base}/documents?wait=0", **send)
    assert (done.status_code, done.data) == (201, late.data)
    assert api.get(base)["document_count"] == 1


def test_a_client_that_hung_up_and_repeats_gets_the_one_result(api: Api, base: str) -> None:
    """T18: the first request is still waiting when the same key comes again."""
    send = {"json": {"title": "a", "text": "only once"}, "headers": {"Idempotency-Key": new_id()}}
    answers: list[Any] = []
    requests = [
        threading.Thread(target=lambda: answers.append(Api(api.app, api.token).send("POST", f"{base}/documents?wait=30", **send)))
        for _ in range(3)
    ]
    for request in requests:
        request.start()
        time.sleep(0.1)
    while runner(api).run_once() or not answers:
        time.sleep(0.05)
    for request in requests:
        request.join()
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert api.get(base)["document_count"] == 1


def test_a_refused_document_fails_at_once_with_its_reason(api: Api, base: str) -> None:
    files = [(io.BytesIO(b"fine words"), "good.txt"), (io.BytesIO((DOCUMENTS / "scanned-no-text.pdf").read_bytes()), "scan.pdf")]
    job = api.call("POST", f"{base}/documents?wait=0", 202, data={"files": files}, content_type="multipart/form-data")["job"]
    runner(api).run_once()
    assert job_of(api, job)["status"] == "partly"
    good, scan = api.get(f"/api/jobs/{job['id']}/items")["items"]
    assert (good["status"], scan["status"], scan["attempts"], scan["retryable"]) == ("done", "failed", 1, False)
    assert scan["error"]["code"] == "unsupported_document"
    assert job["id"] in [dead["id"] for dead in api.get("/api/jobs?status=dead")["items"]]
    api.refused("POST", f"/api/jobs/{job['id']}/retry", 409, "conflict")
    resources = api.app.extensions["agenthub"]
    originals = [name for name in resources.volume.files(base.rsplit("/", 1)[1]) if name.startswith("originals/")]
    assert len(originals) == 1, "a file that can't be read is not kept"


def test_poison_is_put_in_quarantine_after_three_tries_and_the_others_go_on(api: Api, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def reading(knowledge_base: Any, upload: Any, *more: Any) -> Any:
        if b"poison" in upload.data:
            seen.append(upload.filename)
            raise ParserDied("the parser crashed on the file")
        return read_and_cut(knowledge_base, upload, *more)

    monkeypatch.setattr(READING, reading)
    job = accepted(api, base, "poison", "good", "better")
    while runner(api).run_once():
        pass
    assert seen == ["note 0.txt"] * 3
    job = job_of(api, job)
    assert (job["status"], job["progress"]["succeeded"], job["progress"]["quarantined"]) == ("partly", 2, 1)
    poison = api.get(f"/api/jobs/{job['id']}/items")["items"][0]
    assert (poison["status"], poison["attempts"], poison["retryable"]) == ("quarantined", 3, True)
    assert "crashed" in poison["error"]["message"]

    monkeypatch.undo()  # a release that can read it
    retried = api.post(f"/api/jobs/{job['id']}/retry")
    assert (retried["status"], retried["progress"]["done"]) == ("queued", 2)
    runner(api).run_once()
    assert job_of(api, job)["status"] == "succeeded"
    assert len(titles(api, base)) == 3


def test_a_cancelled_job_commits_nothing_more(api: Api, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = accepted(api, base, "one", "two")

    def cancelled_meanwhile(*arguments: Any) -> Any:
        api.post(f"/api/jobs/{job['id']}/cancel")
        return read_and_cut(*arguments)

    monkeypatch.setattr(READING, cancelled_meanwhile)
    runner(api).run_once()
    monkeypatch.undo()
    assert job_of(api, job)["status"] == "cancelled"
    assert (titles(api, base), api.get(base)["generation"]) == ([], 1)
    assert {item["status"] for item in api.get(f"/api/jobs/{job['id']}/items")["items"]} == {"skipped"}
    api.post(f"/api/jobs/{job['id']}/retry")
    runner(api).run_once()
    assert (job_of(api, job)["status"], len(titles(api, base))) == ("succeeded", 2)


def test_a_runner_that_lost_its_lease_commits_nothing(api: Api, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T17: frozen past its lease, another takes over, then it goes on."""
    job = accepted(api, base, "one", "two")
    frozen, thawed = threading.Event(), threading.Event()

    def freezing(*arguments: Any) -> Any:
        if not frozen.is_set():
            frozen.set()
            assert thawed.wait(30)
        return read_and_cut(*arguments)

    monkeypatch.setattr(READING, freezing)
    monkeypatch.setattr(JobQueue, "renew", lambda *_: None)  # a frozen process renews nothing
    zombie = threading.Thread(target=lambda: runner(api, lease_seconds=0.5).run_once())
    zombie.start()
    assert frozen.wait(10)
    time.sleep(0.7)
    while job_of(api, job)["status"] != "succeeded":
        runner(api).run_once()
    generation = api.get(base)["generation"]
    thawed.set()
    zombie.join()
    assert (api.get(base)["generation"], len(titles(api, base))) == (generation, 2)
    assert job_of(api, job)["progress"]["succeeded"] == 2


def test_a_job_without_any_progress_ends_as_failed(api: Api, base: str) -> None:
    job = accepted(api, base, "never")
    for _ in range(MOST_TRIES):
        failpoints.arm("job.staged=error@1")
        assert runner(api).run_once()
        assert job_of(api, job)["error"]["code"] == "internal"
        api.post(f"/api/jobs/{job['id']}/retry")  # due at once
    assert job_of(api, job)["tries"] == MOST_TRIES
    runner(api).run_once()
    job = job_of(api, job)
    assert job["status"] == "failed"
    assert job["error"]["code"] == "internal"
    assert api.get(base)["generation"] == 1
    failpoints.arm("")
    api.post(f"/api/jobs/{job['id']}/retry")
    runner(api).run_once()
    assert job_of(api, job)["status"] == "succeeded"


def test_a_job_of_a_deleted_knowledge_base_fails(api: Api, base: str) -> None:
    job = accepted(api, base, "gone")
    api.call("DELETE", base, 204)
    runner(api).run_once()
    job = job_of(api, job)
    assert (job["status"], job["error"]["code"]) == ("failed", "not_found")


def test_a_document_that_is_deleted_before_its_replacement_stays_deleted(api: Api, base: str) -> None:
    accepted(api, base, "old")
    runner(api).run_once()
    document = api.get(f"{base}/documents")["items"][0]["id"]
    path = f"{base}/documents/{document}"
    job = api.call("PUT", f"{path}?wait=0", 202, json={"title": "a", "text": "new"})["job"]
    api.call("DELETE", path, 200)
    runner(api).run_once()
    assert job_of(api, job)["status"] == "failed"
    assert api.get(f"/api/jobs/{job['id']}/items")["items"][0]["error"]["message"] == "the document was deleted"
    assert titles(api, base) == []


def test_an_erased_document_is_not_brought_back_by_its_job(api: Api, base: str) -> None:
    accepted(api, base, "old")
    runner(api).run_once()
    document = api.get(f"{base}/documents")["items"][0]["id"]
    path = f"{base}/documents/{document}"
    job = api.call("PUT", f"{path}?wait=0", 202, json={"title": "a", "text": "new"})["job"]
    api.post(f"{path}/erase", None, 202)
    runner(api).run_once()
    assert job_of(api, job)["status"] == "succeeded"
    assert (titles(api, base), api.get(f"/api/jobs/{job['id']}/items")["items"]) == ([], [])


def test_jobs_are_listed_by_status_and_knowledge_base_and_paged(api: Api, base: str) -> None:
    jobs = [accepted(api, base, f"text {number}") for number in range(3)]
    key = base.rsplit("/", 1)[1]
    page = api.get(f"/api/jobs?knowledge_base_id={key}&limit=2")
    rest = api.get(f"/api/jobs?knowledge_base_id={key}&limit=2&cursor={page['next_cursor']}")
    assert [job["id"] for job in (*page["items"], *rest["items"])] == [job["id"] for job in reversed(jobs)]
    assert len(api.get(f"/api/jobs?status=queued&knowledge_base_id={key}")["items"]) == 3
    assert api.get(f"/api/jobs?status=succeeded&knowledge_base_id={key}")["items"] == []
    api.refused("GET", "/api/jobs?status=odd", 422, "invalid_input", "status")


def test_jobs_are_in_the_audit_log(api: Api, base: str) -> None:
    job = accepted(api, base, "audited")
    api.post(f"/api/jobs/{job['id']}/cancel")
    api.post(f"/api/jobs/{job['id']}/retry")
    runner(api).run_once()
    events = api.get(f"/api/logs/audit?resource_id={job['id']}")["items"]
    assert [event["action"] for event in reversed(events)] == ["job.create", "job.cancel", "job.retry"]
    document = api.get(f"{base}/documents")["items"][0]["id"]
    [made] = api.get(f"/api/logs/audit?resource_id={document}")["items"]
    assert (made["action"], made["actor_id"]) == ("document.create", events[0]["actor_id"])


def test_how_jobs_stand_is_measured(api: Api, base: str) -> None:
    accepted(api, base, "waits")
    text = api.send("GET", "/metrics").get_data(as_text=True)
    assert 'agenthub_jobs{status="queued"} 1' in text
    assert float(text.split("\nagenthub_jobs_oldest_seconds ")[1].split()[0]) >= 0
    runner(api).run_once()
    text = api.send("GET", "/metrics").get_data(as_text=True)
    assert 'agenthub_jobs{status="queued"} 0' in text
    assert 'agenthub_job_slice_seconds_count{kind="upload"}' in text
    assert "agenthub_job_commit_seconds_count" in text
