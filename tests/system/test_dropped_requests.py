"""RELIABILITY.md T18 over real gunicorn: clients hang up after a second and repeat, while the first request runs: one result each."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.system.dropping import Repeated, long_text, repeated

OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
ROUNDS = 5
PARTS = 150
"""Paragraphs, chunks or questions of one write: seconds of embedding."""


@dataclass
class Clients:
    """Writers over two replicas, one of each kind, who never wait for longer than a second three times in a row."""

    urls: list[str]
    remote: Remote
    dropped: list[int] = field(default_factory=list)

    def send(self, path: str, body: Any) -> Any:
        done: Repeated = repeated(self.urls, str(self.remote.token), path, body, new_id(), drops=3)
        assert done.answer.is_success, done.answer.text
        self.dropped.append(done.dropped)
        return done.answer.json()

    def base(self) -> str:
        key: str = self.remote.post("/api/knowledge-bases", {"name": f"dropped {new_id()}"}, 201)["id"]
        return key

    def documents(self, base: str) -> None:
        path = f"/api/knowledge-bases/{base}"
        for number in range(ROUNDS):
            self.send(f"{path}/documents?wait=60", {"title": f"t{number}", "text": long_text(f"text {number} of {base}", PARTS)})
        assert self.remote.get(path)["document_count"] == ROUNDS
        jobs = self.remote.get(f"/api/jobs?knowledge_base_id={base}&limit=200")["items"]
        assert [job["status"] for job in jobs] == ["succeeded"] * ROUNDS

    def chunks(self, base: str) -> None:
        path = f"/api/knowledge-bases/{base}"
        for number in range(ROUNDS):
            texts = [f"Chunk {part} of {number} in {base}. " + "It says a little more. " * 30 for part in range(PARTS)]
            self.send(f"{path}/chunks", {"items": [{"text": text} for text in texts]})
        assert self.remote.get(path)["chunk_count"] == ROUNDS * PARTS

    def faqs(self, base: str) -> None:
        for number in range(ROUNDS):
            answer = "It is answered at some length. " * 30
            items = [{"question": f"What is {part} of {number} in {base}?", "answer": answer} for part in range(PARTS)]
            self.send("/api/faqs/import", {"knowledge_base_id": base, "items": items})
        assert self.remote.get(f"/api/knowledge-bases/{base}")["chunk_count"] == ROUNDS * PARTS


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_clients_that_hang_up_and_repeat_get_one_result_each(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = {"DATABASE_URL": str(request.getfixturevalue("migrated_postgresql"))} if backend == "postgresql" else {}
    shared = {"AGENTHUB_RATE_LIMITS": "off", **database, **OWNER}
    with AgentHubServer(tmp_path, **shared) as one, AgentHubServer(tmp_path, **shared) as other:
        remote = Remote(one.url).login(OWNER["AGENTHUB_OWNER_EMAIL"], OWNER["AGENTHUB_OWNER_PASSWORD"])
        clients = Clients([one.url, other.url], remote)
        failures: list[BaseException] = []
        kinds: list[Callable[[str], None]] = [clients.documents, clients.chunks, clients.faqs]
        threads = [threading.Thread(target=guarded, args=(kind, clients.base(), failures)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for failure in failures:
        raise failure
    figures = {"backend": backend, "writes": len(clients.dropped), "dropped": sum(clients.dropped)}
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert len(clients.dropped) == len(kinds) * ROUNDS
    assert sum(clients.dropped) >= len(clients.dropped), "hardly a request was at work for as long as its client waited"


def guarded(kind: Callable[[str], None], base: str, failures: list[BaseException]) -> None:
    try:
        kind(base)
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
        failures.append(error)
