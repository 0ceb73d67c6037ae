"""Two replicas over BigQuery's emulator and one memcached: who calls comes from the cache, and what one ends is over on the other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from agenthub.storage.configuration import BigQuerySettings
from tests.servers.agenthub_server import ROOT, AgentHubServer, Remote
from tests.servers.bigquery import BigQueryPlace
from tests.servers.memcached import MemcachedServer

EMAIL, PASSWORD = "owner@example.com", "correct horse battery staple"


@dataclass(frozen=True)
class Replicas:
    """Two servers and what they share."""

    urls: tuple[str, str]
    cache: MemcachedServer

    def hits(self) -> float:
        """How often both together were answered from the cache who calls."""
        found = [httpx.get(f"{url}/metrics", timeout=60).text for url in self.urls]
        return sum(
            float(count) for text in found for count in re.findall(r'agenthub_cache_total\{kind="hot",result="hit"\} ([\d.e+]+)', text)
        )


@pytest.fixture
def replicas(tmp_path: Path, bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings) -> Iterator[Replicas]:
    with ExitStack() as stack:
        cache = MemcachedServer()
        stack.callback(cache.destroy)
        cache.start()
        environment = {
            "DATABASE_URL": "",
            "MEMCACHED_SERVERS": cache.address,
            "AGENTHUB_OWNER_EMAIL": EMAIL,
            "AGENTHUB_OWNER_PASSWORD": PASSWORD,
            "AGENTHUB_SERVICES": "agents.*,knowledge.*,platform.*",
            "AGENTHUB_MAINTENANCE": "off",
            "AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "60",
            "AGENTHUB_WORKER_TIMEOUT_SECONDS": "180",
            "WEB_CONCURRENCY": "1",
            **bigquery_place.environment(bigquery_dataset),
        }
        servers = [AgentHubServer(tmp_path, **environment) for _ in range(2)]
        subprocess.run([sys.executable, "-m", "agenthub.cli", "migrate"], cwd=ROOT, env=servers[0].environment, check=True, timeout=300)
        for server in servers:
            stack.enter_context(server)
        yield Replicas((servers[0].url, servers[1].url), cache)


def signed_in(url: str, email: str = EMAIL) -> Remote:
    return Remote(url).login(email, PASSWORD)


@pytest.mark.torture  # most of a minute goes to the emulator
@pytest.mark.timeout(900)
def test_what_one_ends_is_over_on_the_other_and_the_rest_comes_from_the_cache(replicas: Replicas) -> None:
    one = signed_in(replicas.urls[0])
    other = Remote(replicas.urls[1], one.token)
    one.get("/api/auth/me")
    before = replicas.hits()
    for _ in range(5):
        other.get("/api/auth/me")
    assert replicas.hits() > before

    base = one.post("/api/knowledge-bases", {"name": "stamps", "embedding_model": None, "dimension": 2}, 201)["id"]
    search = {"query": "zebra", "mode": "keyword", "top_k": 9}
    for stamp in range(3):
        item = {"id": f"stamp-{stamp}", "text": f"zebra {stamp}", "vector": [1.0, 0.5]}
        one.post(f"/api/knowledge-bases/{base}/chunks", {"items": [item]})
        assert len(other.post(f"/api/knowledge-bases/{base}/search", search)["hits"]) == stamp + 1

    user = one.post("/api/users", {"email": "u@example.com", "password": PASSWORD, "role": "user"}, 201)
    theirs = signed_in(replicas.urls[1], "u@example.com")
    theirs.get("/api/auth/me")
    one.call("PATCH", f"/api/users/{user['id']}", 200, json={"status": "suspended"})
    theirs.call("GET", "/api/auth/me", 401)

    replicas.cache.kill()  # who can't tell the others waits until what they keep is out of date
    other.get("/api/auth/me")
    one.call("POST", "/api/auth/logout", 204)
    other.call("GET", "/api/auth/me", 401)
