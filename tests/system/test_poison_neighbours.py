"""RELIABILITY.md T20: while hostile files are read, uploads and searches of others take at most twice as long as alone."""

from __future__ import annotations

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from agenthub.core.ids import new_id
from agenthub.core.observe import Unobserved
from agenthub.core.types import TenantId
from agenthub.repositories.platform.organizations import Organization, OrganizationRepository
from agenthub.repositories.platform.passwords import HASHING
from agenthub.repositories.platform.sessions import SessionRepository, new_session
from agenthub.repositories.platform.users import UserRepository, new_user
from agenthub.resources import open_resources
from agenthub.settings import Settings
from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.system.poison import archives, documents

OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
ALONE = 60
CORPORA = 3
MOST_TIMES = 2.0
PAGE = "# Page {0}\n\nWhat page {0} says about herons is said nowhere else. " + "They stand in the reeds and wait. " * 15


@dataclass
class Seconds:
    """What uploads and searches took."""

    uploads: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)

    def told(self) -> dict[str, float]:
        """Medians and 95th percentiles in milliseconds."""
        return {
            f"{name}_{part}_ms": round(1000 * value, 1)
            for name, taken in (("upload", self.uploads), ("search", self.searches))
            for part, value in (("p50", statistics.median(taken)), ("p95", statistics.quantiles(taken, n=20)[18]))
        }


class Neighbour:
    """Somebody else, who uploads a page, waits until it is searchable, and searches."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._path = f"/api/knowledge-bases/{remote.post('/api/knowledge-bases', {'name': 'neighbour'}, 201)['id']}"

    def work(self, seconds: Seconds) -> None:
        """One page. It must be there when the upload is answered."""
        word = new_id()
        files = [("files", (f"{word}.md", PAGE.format(word).encode()))]
        began = time.monotonic()
        self._remote.call("POST", f"{self._path}/documents?wait=120", 201, files=files)
        seconds.uploads.append(time.monotonic() - began)
        for mode in ("keyword", "hybrid"):
            began = time.monotonic()
            hits = self._remote.post(f"{self._path}/search", {"query": f"page {word}", "mode": mode})["hits"]
            seconds.searches.append(time.monotonic() - began)
            assert mode == "hybrid" or word in hits[0]["text"]


def stranger(server: AgentHubServer) -> Remote:
    """A user of another organization: operators make those on the server's own database."""
    resources = open_resources(Settings.from_env(server.environment), Flask("organizations"), Unobserved(), frozenset({"storage"}))
    storage, now = resources.storage, datetime.now(UTC)
    tenant = OrganizationRepository(storage).add(Organization(TenantId(new_id()), "Neighbours", "active", None, now, now)).id
    user = UserRepository(storage).add(new_user(tenant, "neighbour@example.org", None, "owner", HASHING.hash(new_id()), now))
    life = timedelta(hours=1)
    issued = new_session(tenant, user.id, now, address="192.0.2.1", user_agent="test", idle_life=life, absolute_life=life)
    SessionRepository(storage).start(issued)
    resources.close()
    return Remote(server.url, issued.token)


def send_poison(remote: Remote) -> list[str]:
    """The whole corpus so often; the jobs."""
    jobs: list[str] = []
    for _ in range(CORPORA):
        base = remote.post("/api/knowledge-bases", {"name": f"poison {new_id()}"}, 201)["id"]
        uploads: list[dict[str, bytes]] = [documents(), *({name: data} for name, data in archives().items())]
        for sent in uploads:
            files = [("files", (name, data)) for name, data in sent.items()]
            jobs.append(remote.call("POST", f"/api/knowledge-bases/{base}/documents?wait=0", 202, files=files)["job"]["id"])
    return jobs


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_others_wait_at_most_twice_as_long_while_poison_is_read(tmp_path: Path) -> None:
    with AgentHubServer(tmp_path, AGENTHUB_RATE_LIMITS="off", **OWNER) as server:
        remote = Remote(server.url).login(OWNER["AGENTHUB_OWNER_EMAIL"], OWNER["AGENTHUB_OWNER_PASSWORD"])
        neighbour, alone, beside = Neighbour(stranger(server)), Seconds(), Seconds()
        for _ in range(10):
            neighbour.work(Seconds())
        for _ in range(ALONE):
            neighbour.work(alone)
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_poison, remote)
            while not sending.done() or any(remote.get(f"/api/jobs/{job}")["finished_at"] is None for job in sending.result()):
                neighbour.work(beside)
        jobs, taken = sending.result(), time.monotonic() - began
        statuses = {remote.get(f"/api/jobs/{job}")["status"] for job in jobs}
    figures: dict[str, Any] = {"alone": alone.told(), "beside": beside.told(), "pages": len(beside.uploads), "poison_s": round(taken, 1)}
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert statuses <= {"failed", "partly"}, statuses
    for name in ("upload_p50_ms", "search_p50_ms"):
        assert figures["beside"][name] <= MOST_TIMES * figures["alone"][name], figures
