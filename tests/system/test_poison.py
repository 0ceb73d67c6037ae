"""RELIABILITY.md T20 and T17: hostile and broken files beside good ones, worked on by a real worker whose memory is watched."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api, make_app
from tests.rag.parsing.conftest import build_pdf
from tests.rag.parsing.test_unpacking import zipped
from tests.servers.openai_server import openai_server
from tests.system.poison import archives, documents, letter
from tests.system.workers import Watch, ended, resident, upload, worker

MIB = 1024 * 1024
MOST_RSS_BYTES = 512 * MIB
GOOD = {
    "first.txt": b"A good text about otters.",
    "second.docx": letter("A good letter about herons."),
    "third.md": b"# Good\n\nAbout newts.",
}


def app(folder: Path, **environment: str) -> Api:
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", AGENTHUB_JOBS="off", **environment)).login()


def items_of(api: Api, job: Any) -> dict[str, Any]:
    return {item["name"]: item for item in api.get(f"/api/jobs/{job['id']}/items?limit=200")["items"]}


def assert_refused(items: dict[str, Any], names: set[str]) -> None:
    """These ended with a reason, after three attempts at most."""
    assert {name: items[name]["status"] for name in names if items[name]["status"] not in ("failed", "quarantined")} == {}
    assert all(items[name]["error"]["message"] for name in names)
    assert max(items[name]["attempts"] for name in names) <= 3


def test_poison_is_refused_with_reasons_while_good_files_finish(tmp_path: Path) -> None:
    api, poison = app(tmp_path), documents()
    with worker(tmp_path) as process:
        time.sleep(2)
        idle_bytes = resident(process.pid)
        with Watch(process.pid) as watch:
            job = ended(api, upload(api, {**poison, **GOOD}))
    items = items_of(api, job)
    assert {name: items[name]["status"] for name in GOOD} == dict.fromkeys(GOOD, "done")
    assert_refused(items, set(poison))
    assert (job["status"], job["progress"]["done"]) == ("partly", len(poison) + len(GOOD))
    assert watch.peak_bytes - idle_bytes <= MOST_RSS_BYTES, f"{(watch.peak_bytes - idle_bytes) // MIB} MiB above idle"


def test_poisoned_archives_are_refused_with_reasons_while_a_good_one_is_unpacked(tmp_path: Path) -> None:
    api, poison = app(tmp_path), archives()
    good = zipped(GOOD)
    with worker(tmp_path) as process:
        time.sleep(2)
        idle_bytes = resident(process.pid)
        with Watch(process.pid) as watch:
            jobs = {name: upload(api, {name: data}) for name, data in {**poison, "good.zip": good}.items()}
            over = {name: ended(api, job) for name, job in jobs.items()}
    assert (over["good.zip"]["status"], over["good.zip"]["progress"]["succeeded"]) == ("succeeded", len(GOOD) + 1)
    for name in poison:
        items = items_of(api, over[name])
        found = api.get(f"/api/knowledge-bases/{over[name]['knowledge_base_id']}")["document_count"]
        assert found == 0, (name, items)
        assert_refused(items, {one for one in items if one != name or len(items) == 1})
    assert watch.peak_bytes - idle_bytes <= MOST_RSS_BYTES, f"{(watch.peak_bytes - idle_bytes) // MIB} MiB above idle"


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_page_nested_two_hundred_thousand_deep_is_refused(tmp_path: Path) -> None:
    api = app(tmp_path)
    with worker(tmp_path):
        job = ended(api, upload(api, {"deep.html": b"<div>" * 200_000 + b"text", **GOOD}), 600)
    items = items_of(api, job)
    assert_refused(items, {"deep.html"})
    assert {name: items[name]["status"] for name in GOOD} == dict.fromkeys(GOOD, "done")


def test_a_worker_that_is_told_to_stop_leaves_its_job_to_the_next(tmp_path: Path) -> None:
    """T17: SIGTERM while a file is being read; gone within 8 seconds, nothing half done, no strike against the file."""
    api = Api(make_app(tmp_path, f"sqlite:///{tmp_path}/agenthub.sqlite3", AGENTHUB_JOBS="off")).login()
    page = [(10, 800 - 12 * line, f"Line {line} of a page that takes its time to be read.") for line in range(60)]
    files = {"long.pdf": build_pdf([page] * 80), **GOOD}
    with worker(tmp_path) as process:
        job = upload(api, files)
        while api.get(f"/api/jobs/{job}")["status"] == "queued":
            time.sleep(0.02)
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - started <= 8
    left = api.get(f"/api/jobs/{job}")
    assert left["tries"] == 0, "it was left in order"
    with worker(tmp_path):
        done = ended(api, job)
    assert (done["status"], done["progress"]["succeeded"]) == ("succeeded", len(files))
    assert max(item["attempts"] for item in api.get(f"/api/jobs/{job}/items")["items"]) == 1


@pytest.mark.torture
def test_a_worker_whose_provider_hangs_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """T17 and T19: the request to the provider is left alone; the job goes to the next, with nothing committed and no strike."""
    with openai_server() as server:
        environment = {"EMBEDDING_BASE_URL": server.url, "EMBEDDING_MODEL": "remote"}
        api = app(tmp_path, **environment)
        base = api.post("/api/knowledge-bases", {"name": "hanging"}, 201)["id"]
        asked = len(server.requests)
        server.faults.extend(["hang"] * 20)
        with worker(tmp_path, **environment) as process:
            path = f"/api/knowledge-bases/{base}/documents?wait=0"
            job = api.post(path, {"title": "a", "text": "A text that waits for its vector."}, 202)["job"]["id"]
            limit = time.monotonic() + 240
            while len(server.requests) == asked:
                assert time.monotonic() < limit
                time.sleep(0.02)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert time.monotonic() - started <= 8
        server.faults.clear()
        server.released.set()
        with worker(tmp_path, **environment):
            done = ended(api, job)
    assert done["status"] == "succeeded", done
    assert [item["attempts"] for item in api.get(f"/api/jobs/{job}/items")["items"]] == [1]
