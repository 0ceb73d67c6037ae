"""Two replicas over one memcached and one PostgreSQL: what one embeds the other has, what one ends is over on the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.servers.memcached import MemcachedServer, MissingCacheServer

EMAIL, PASSWORD = "owner@example.com", "correct horse battery staple"
LIMIT = 40


@dataclass(frozen=True)
class Deployment:
    """What replicas share."""

    folder: Path
    environment: dict[str, str]

    def server(self) -> AgentHubServer:
        return AgentHubServer(self.folder, **self.environment)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, migrated_postgresql: str) -> Iterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        try:
            memcached = MemcachedServer("ascii")
        except MissingCacheServer as error:
            pytest.fail(str(error), pytrace=False)
        stack.callback(memcached.destroy)
        memcached.start()
        environment = {
            "DATABASE_URL": migrated_postgresql,
            "MEMCACHED_SERVERS": memcached.address,
            "MEMCACHED_USERNAME": "hub",
            "MEMCACHED_PASSWORD": "correct-horse",
            "AGENTHUB_OWNER_EMAIL": EMAIL,
            "AGENTHUB_OWNER_PASSWORD": PASSWORD,
            "AGENTHUB_RATE_LIMIT_KEY": str(LIMIT),
            "WEB_CONCURRENCY": "1",
        }
        yield Deployment(folder, environment)


@pytest.fixture(scope="module")
def replicas(deployment: Deployment) -> Iterator[tuple[str, str]]:
    with deployment.server() as one, deployment.server() as other:
        yield one.url, other.url


def remote(url: str) -> Remote:
    return Remote(url).login(EMAIL, PASSWORD)


def test_a_text_embedded_by_one_is_a_hit_for_the_other(replicas: tuple[str, str]) -> None:
    one, other = remote(replicas[0]), remote(replicas[1])
    texts = [f"text number {i}" for i in range(20)]
    made = one.post("/api/embeddings", {"texts": texts})["embeddings"]
    before = other.get("/api/embeddings/cache")
    assert other.post("/api/embeddings", {"texts": texts})["embeddings"] == made
    after = other.get("/api/embeddings/cache")
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (20, 0)
    assert after["backend"] == "memcached"


def test_a_session_ended_on_one_is_dead_on_the_other_at_its_next_request(replicas: tuple[str, str]) -> None:
    for _ in range(10):
        one = remote(replicas[0])
        elsewhere = Remote(replicas[1], one.token)
        elsewhere.get("/api/auth/me")
        one.call("POST", "/api/auth/logout", 204)
        elsewhere.call("GET", "/api/auth/me", 401)


def test_a_suspended_user_is_out_everywhere_at_the_next_request(replicas: tuple[str, str]) -> None:
    one = remote(replicas[0])
    user = one.post("/api/users", {"email": "u@example.com", "password": PASSWORD, "role": "user"}, 201)
    theirs = Remote(replicas[1]).login("u@example.com", PASSWORD)
    theirs.get("/api/auth/me")
    one.call("PATCH", f"/api/users/{user['id']}", 200, json={"status": "suspended"})
    theirs.call("GET", "/api/auth/me", 401)


def test_the_limit_of_a_key_counts_both(replicas: tuple[str, str]) -> None:
    key = remote(replicas[0]).post("/api/api-keys", {"name": "limited", "scopes": ["agents:read"]}, 201)["secret"]
    clients = [httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) for url in replicas]
    while time.time() % 60 > 45:  # the whole test has to fit into one minute's window
        time.sleep(1)
    statuses = [clients[i % 2].get("/api/agents").status_code for i in range(LIMIT + 20)]
    assert statuses.count(200) == LIMIT
    assert set(statuses[LIMIT:]) == {429}


def test_t16_each_reads_at_once_what_the_other_wrote(replicas: tuple[str, str]) -> None:
    """The row is read in every request: what one acknowledged the other shows at its next search, never an older generation."""
    one, other = remote(replicas[0]), remote(replicas[1])
    base = one.post("/api/knowledge-bases", {"name": "stamps", "embedding_model": None, "dimension": 2}, 201)["id"]
    path = f"/api/knowledge-bases/{base}"
    newest = 0
    for stamp in range(25):
        one.post(f"{path}/chunks", {"items": [{"id": f"stamp-{stamp}", "text": f"zebra {stamp}", "vector": [1.0, 0.5]}]})
        for reader in (other, one, other):
            answer = reader.post(f"{path}/search", {"query": "zebra", "mode": "keyword", "top_k": 100})
            assert f"stamp-{stamp}" in {hit["chunk_id"] for hit in answer["hits"]}
            assert answer["generation"] >= newest
            newest = answer["generation"]


def test_a_new_replica_starts_warm_and_ends_at_once(deployment: Deployment, replicas: tuple[str, str]) -> None:
    """What one was asked for another one, started later, has opened before anybody asks it; the embedding is a hit."""
    one = remote(replicas[0])
    base = one.post("/api/knowledge-bases", {"name": "busy"}, 201)["id"]
    one.post(f"/api/knowledge-bases/{base}/documents", {"title": "note", "text": "The meeting is on Tuesday."}, 201)
    limit = time.monotonic() + 300
    with deployment.server() as late:
        warmed = None
        while warmed is None or not warmed["embeddings"]:
            assert time.monotonic() < limit, "what was searched is never recorded, or a new process never warms itself"
            one.post(f"/api/knowledge-bases/{base}/search", {"query": "When is the meeting?"})
            other = remote(late.url)
            time.sleep(2)
            other.call("POST", "/api/embeddings/cache/warm", 202)
            time.sleep(2)
            warmed = other.get("/api/embeddings/cache")["warmed"]
        assert (warmed["knowledge_bases"] > 0, warmed["failures"], warmed["ended"]) == (True, 0, "done")
        before = other.get("/api/embeddings/cache")
        other.post(f"/api/knowledge-bases/{base}/search", {"query": "When is the meeting?", "top_k": 3})
        after = other.get("/api/embeddings/cache")
        assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (1, 0)
        started = time.monotonic()
        assert late.stop() == 0
        assert time.monotonic() - started < 30
