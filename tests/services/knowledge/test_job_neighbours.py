"""A file that takes long holds up the jobs of its organization, and of no other."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from agenthub.jobs.preparing import Upload, read_and_cut
from agenthub.rag.parsing.sandbox import ReadingAbandoned
from tests.accounts import RunningClock, World
from tests.api import Api

READING = "agenthub.jobs.pipeline.read_and_cut"
SERVICES = "knowledge.*,platform.authentication"


def base_of(api: Api) -> str:
    return f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'a'}, 201)['id']}"


def test_others_are_served_while_a_file_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = threading.Event(), threading.Event()

    def slow(base: Any, upload: Upload, limits: Any, abandoned: Any) -> Any:
        if upload.data == b"slow":
            begun.set()
            while not released.wait(0.05):
                if abandoned():
                    raise ReadingAbandoned
        return read_and_cut(base, upload, limits, abandoned)

    monkeypatch.setattr(READING, slow)
    world = World(tmp_path, RunningClock(), AGENTHUB_SERVICES=SERVICES)
    owner = world.account()
    busy, quiet = owner.api, world.account().api
    slow_base, base = base_of(busy), base_of(quiet)
    job = busy.post(f"{slow_base}/documents?wait=0", {"title": "slow", "text": "slow"}, 202)["job"]["id"]
    assert begun.wait(120)
    queued = busy.post(f"{slow_base}/documents?wait=0", {"title": "next", "text": "next"}, 202)["job"]["id"]
    for number in range(3):
        quiet.post(f"{base}/documents?wait=120", {"title": f"{number}", "text": f"text {number}"}, 201)
    assert not released.is_set()
    assert [busy.get(f"/api/jobs/{one}")["status"] for one in (job, queued)] == ["running", "queued"]
    released.set()
    world.app.extensions["agenthub_jobs"].wait(owner.tenant_id, queued, 120)
    assert [busy.get(f"/api/jobs/{one}")["status"] for one in (job, queued)] == ["succeeded", "succeeded"]
    world.app.extensions["agenthub_jobs"].close()
