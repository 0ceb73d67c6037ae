"""RELIABILITY.md T19: the embedding endpoint fails in every way while a job is under way; the job resumes, nothing partial is committed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agenthub.core.ids import new_id
from agenthub.jobs.runner import Runner
from tests.api import Api, make_app
from tests.servers.openai_server import OpenAIServer, openai_server

DIMENSION = 8
TEXT = "\n\n".join(f"Paragraph {number} says something that no other one says, at some length. " * 8 for number in range(30))


def made(folder: Path, server: OpenAIServer) -> Api:
    database = f"sqlite:///{folder}/{new_id()}.sqlite3"
    settings = {"EMBEDDING_BASE_URL": server.url, "EMBEDDING_MODEL": "remote", "EMBEDDING_API_KEY": "key", "AGENTHUB_JOBS": "off"}
    return Api(make_app(folder, database, **settings, AGENTHUB_SERVICES="knowledge.*,platform.authentication")).login()


LONG = ["busy", "hang", "drip", "drip_head", "broken", "denied", "garbage", "zero", "doubled", "cut"]
"""Faults that the endpoint's client itself retries for a while, and those that are much like the others."""
MOST_SECONDS = 150.0
"""A batch with its repeats may take 120 seconds; the rest is for a slow machine."""


@pytest.mark.parametrize("fault", [*(pytest.param(fault, marks=pytest.mark.torture) for fault in LONG), "nan", "half", "wrong_dimension"])
def test_a_job_resumes_when_the_endpoint_recovers(tmp_path: Path, fault: str) -> None:
    with openai_server(dimension=DIMENSION, drip_seconds=1.0) as server:
        api = made(tmp_path, server)
        base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'a'}, 201)['id']}"
        job = api.post(f"{base}/documents?wait=0", {"title": "a", "text": TEXT}, 202)["job"]
        runner = Runner(api.app.extensions["agenthub"])
        server.faults.extend([fault] * 50)
        began = time.monotonic()
        assert runner.run_once()
        assert time.monotonic() - began < MOST_SECONDS, "the runner was held up for longer than a batch may take"
        waiting = api.get(f"/api/jobs/{job['id']}")
        assert (waiting["status"], waiting["error"]["code"], waiting["progress"]["done"]) == ("running", "provider_failure", 0)
        assert (api.get(base)["generation"], api.get(base)["chunk_count"]) == (1, 0), "nothing partial is committed"
        assert not runner.run_once(), "it is not tried again at once"

        server.faults.clear()
        finish(api, runner, job["id"])
        assert api.get(base)["document_count"] == 1
        assert stored_dimensions(api, base) == {DIMENSION}
        assert api.get(f"/api/jobs/{job['id']}/items")["items"][0]["attempts"] == 1, "the provider's failure is no strike"


def finish(api: Api, runner: Runner, job: str) -> None:
    """Retry until the endpoint's breaker lets it through."""
    embedders = api.app.extensions["agenthub"].embedders
    embedders.default._embedder._breaker.note(True)  # the pause of the breaker is tested where it lives
    for _ in range(10):
        api.post(f"/api/jobs/{job}/retry")
        runner.run_once()
        if api.get(f"/api/jobs/{job}")["status"] == "succeeded":
            return
    raise AssertionError(api.get(f"/api/jobs/{job}"))


def stored_dimensions(api: Api, base: str) -> set[int]:
    resources: Any = api.app.extensions["agenthub"]
    folder = resources.volume.root / base.rsplit("/", 1)[1]
    count = api.get(base)["chunk_count"]
    return {np.fromfile(path, "<f4").size // count for path in folder.rglob("vectors.f32")}
