"""RELIABILITY.md T22: 1, 2, 4 and 8 clients upload into one knowledge base through two server processes; nobody waits long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.servers.agenthub_server import AgentHubServer, Remote

OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
MOST_SECONDS = 5.0
UPLOADS = 15


def contend(url: str, token: str | None, path: str, clients: int) -> list[float]:
    """The seconds of each upload of all clients together; each must be answered 201."""
    seconds: list[float] = []

    def write(name: int) -> None:
        client = Remote(url, token)
        for number in range(UPLOADS):
            started = time.monotonic()
            client.post(f"{path}/documents", {"title": f"{name}-{number}", "text": f"Fact {number} of {name}."}, 201)
            seconds.append(time.monotonic() - started)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


@pytest.mark.torture
def test_no_writer_waits_long_for_the_others(tmp_path: Path) -> None:
    with AgentHubServer(tmp_path, AGENTHUB_RATE_LIMITS="off", **OWNER) as server:
        remote = Remote(server.url).login(OWNER["AGENTHUB_OWNER_EMAIL"], OWNER["AGENTHUB_OWNER_PASSWORD"])
        for clients in (1, 2, 4, 8):
            path = f"/api/knowledge-bases/{remote.post('/api/knowledge-bases', {'name': f'hot {clients}'}, 201)['id']}"
            seconds = contend(server.url, remote.token, path, clients)
            assert len(seconds) == clients * UPLOADS, "every upload was answered 201"
            assert max(seconds) <= MOST_SECONDS, (clients, max(seconds))
            assert remote.get(path)["document_count"] == clients * UPLOADS
