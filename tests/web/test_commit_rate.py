"""More writes than a database commits: the rest are told when to come back, and nothing is lost or doubled by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agenthub.core.errors import AgentHubError, GenerationConflict, TooManyCommits
from agenthub.repositories.knowledge.commits import _overtaken
from agenthub.storage.bigquery.queue import CommitQueue, Waiting
from agenthub.storage.contract import Row, Write
from agenthub.web.access import EXTENSION
from agenthub.web.errors import refusal_of
from tests.api import OWNER, Api, make_app

PACE_SECONDS = 20.0
PATIENCE_SECONDS = 30.0


class SlowCommits:
    """The commits of a storage by way of BigQuery's queue, held until they may go on."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        storage = api.app.extensions[EXTENSION].storage
        self._commit = storage.commit
        self.queue = CommitQueue(self._work)
        self.queue.pace_seconds = PACE_SECONDS
        self.begun, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(storage, "commit", self.commit)

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        return self.queue.commit(writes, time.monotonic() + PATIENCE_SECONDS)

    def _work(self, batch: Sequence[Waiting]) -> None:
        self.begun.set()
        assert self.go_on.wait(120)
        for waiting in batch:
            try:
                waiting.outcome = self._commit(waiting.writes)
            except AgentHubError as error:
                waiting.outcome = error


def test_writes_above_the_rate_are_told_when_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(make_app(tmp_path, AGENTHUB_SERVICES="platform.*,agents.*")).login(**OWNER)
    slow = SlowCommits(api, monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(Api(api.app, api.token).post, "/api/agents", {"name": "first"}, 201)
        try:
            assert slow.begun.wait(120)
            response = api.send("POST", "/api/agents", json={"name": "second"}, headers={"Idempotency-Key": "second"})
            assert response.status_code == 429
            error = response.get_json()["error"]
            assert (error["code"], bool(error["request_id"])) == ("rate_limited", True)
            assert "BigQuery commits" in error["message"]
            assert PACE_SECONDS / 2 <= int(response.headers["Retry-After"]) <= 2 * PACE_SECONDS
        finally:
            slow.go_on.set()
        assert first.result(120)["name"] == "first"
    for _ in range(2):
        api.post("/api/agents", {"name": "second"}, 201, headers={"Idempotency-Key": "second"})
    assert sorted(agent["name"] for agent in api.get("/api/agents")["items"]) == ["first", "second"]


def test_a_knowledge_base_above_the_rate_says_how_many_commits_it_takes() -> None:
    """Where commits are slow it is 429; where they are not, others were faster by chance."""
    plain, slow = _overtaken(0.0), _overtaken(2.0)
    assert (type(plain), refusal_of(plain).status, plain.retry_after_seconds) == (GenerationConflict, 409, 1)
    assert isinstance(slow, TooManyCommits)
    assert refusal_of(slow).status == 429
    assert "about 30 commits a minute" in slow.message
    assert (slow.retry_after_seconds or 0) > 2
