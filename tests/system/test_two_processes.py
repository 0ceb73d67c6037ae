"""Two processes over one database and volume, one of them serving only knowledge: they share one state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.system.dropping import long_text, repeated

OWNER = {"email": "owner@example.com", "password": "correct horse battery staple"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, migrated_postgresql: str) -> Iterator[tuple[AgentHubServer, AgentHubServer]]:
    folder: Path = tmp_path_factory.mktemp("pair")
    shared = {
        "DATABASE_URL": migrated_postgresql,
        "AGENTHUB_OWNER_EMAIL": OWNER["email"],
        "AGENTHUB_OWNER_PASSWORD": OWNER["password"],
        "WEB_CONCURRENCY": "1",
    }
    rest = AgentHubServer(folder, **shared, AGENTHUB_SERVICES="platform.*,agents.*")
    knowledge = AgentHubServer(folder, **shared, AGENTHUB_SERVICES="knowledge.*")
    with rest, knowledge:
        yield rest, knowledge


@pytest.fixture(scope="module")
def clients(pair: tuple[AgentHubServer, AgentHubServer]) -> tuple[Remote, Remote]:
    rest = Remote(pair[0].url).login(OWNER["email"], OWNER["password"])
    return rest, Remote(pair[1].url, rest.token)


def test_each_process_serves_its_services_only(clients: tuple[Remote, Remote]) -> None:
    rest, knowledge = clients
    assert rest.get("/api/auth/me")["email"] == OWNER["email"]
    assert knowledge.client.get("/api/auth/me").status_code == 404
    assert rest.client.get("/api/knowledge-bases").status_code == 404
    assert knowledge.get("/api/knowledge-bases")["items"] == []


def test_what_one_writes_the_other_reads_at_once(clients: tuple[Remote, Remote]) -> None:
    rest, knowledge = clients
    base = knowledge.post("/api/knowledge-bases", {"name": "shared"}, 201)["id"]
    agent = rest.post("/api/agents", {"name": "Guide", "knowledge_base_ids": [base]}, 201)
    assert agent["knowledge_base_ids"] == [base]
    knowledge.post(f"/api/knowledge-bases/{base}/documents", {"title": "a", "text": "Shared state is one state."}, 201)
    events = rest.get("/api/logs/audit?action=document.create")["items"]
    assert len(events) == 1


def test_a_session_ended_in_one_is_dead_in_the_other(pair: tuple[AgentHubServer, AgentHubServer]) -> None:
    rest = Remote(pair[0].url).login(OWNER["email"], OWNER["password"])
    knowledge = Remote(pair[1].url, rest.token)
    knowledge.get("/api/knowledge-bases")
    rest.call("POST", "/api/auth/logout", 204)
    assert knowledge.client.get("/api/knowledge-bases").status_code == 401


def test_concurrent_uploads_from_two_replicas_lose_nothing(
    pair: tuple[AgentHubServer, AgentHubServer], clients: tuple[Remote, Remote]
) -> None:
    rest, knowledge = clients
    with twin_of(pair[1]) as twin:
        base = knowledge.post("/api/knowledge-bases", {"name": "raced"}, 201)["id"]
        path = f"/api/knowledge-bases/{base}/documents"
        answers: list[Any] = []

        def write(client: Remote, name: str) -> None:
            answers.extend(client.post(path, {"title": f"{name}{n}", "text": f"fact {name} {n}"}, 201) for n in range(6))

        writers = [(Remote(url, rest.token), name) for url, name in zip((pair[1].url, twin.url) * 2, "abcd", strict=True)]
        threads = [threading.Thread(target=write, args=writer) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({answer["id"] for answer in answers}) == 24  # uploads that waited together share a generation
        assert knowledge.get(f"/api/knowledge-bases/{base}")["document_count"] == 24
        for url in (pair[1].url, twin.url):
            found = Remote(url, rest.token).post(f"/api/knowledge-bases/{base}/search", {"query": "fact", "top_k": 100})["hits"]
            assert {hit["document_id"] for hit in found} == {answer["id"] for answer in answers}


def test_a_client_that_gave_up_and_repeats_at_the_other_replica_gets_the_one_result(
    pair: tuple[AgentHubServer, AgentHubServer], clients: tuple[Remote, Remote]
) -> None:
    """T18 (`test_dropped_requests.py` has the long form)."""
    rest, knowledge = clients
    with twin_of(pair[1]) as twin:
        path = f"/api/knowledge-bases/{knowledge.post('/api/knowledge-bases', {'name': 'dropped'}, 201)['id']}"
        body = {"title": "a", "text": long_text("a", 40)}
        done = repeated([pair[1].url, twin.url], str(rest.token), f"{path}/documents?wait=60", body, "dropped", drops=2, seconds=0.3)
        assert done.answer.status_code == 201, done.answer.text
        assert knowledge.get(path)["document_count"] == 1


def twin_of(server: AgentHubServer) -> AgentHubServer:
    """A second replica of a server, on its own port."""
    twin = AgentHubServer(server.log.parent)
    twin.environment = {**server.environment, "PORT": str(twin.port)}
    return twin
