"""RELIABILITY.md T22: 1, 2, 4 and 8 clients write into one knowledge base through two server processes; nobody waits long.

Uploads share generations, so they hardly race. Chunks that clients send are committed by their requests: those do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.agenthub_server import ROOT, AgentHubServer, Remote
from tests.servers.postgresql import PostgresqlServer, create_database

OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
MOST_SECONDS = 5.0
MOST_RETRIES = 3.0
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


def commits(server: AgentHubServer) -> dict[str, float]:
    """How commits of knowledge bases went since the server's start, by result."""
    text = httpx.get(f"{server.url}/metrics").text
    return {result: float(count) for result, count in re.findall(r'agenthub_kb_commit_total\{result="(\w+)"\} ([\d.e+]+)', text)}


def together(clients: int, work: Callable[[int], None]) -> None:
    """Run that in so many threads. Raises: what one of them raised."""
    failures: list[BaseException] = []

    def guarded(name: int) -> None:
        try:
            work(name)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def chunk(name: int, number: int) -> dict[str, Any]:
    return {"items": [{"id": f"c{name}-{number}", "text": f"Fact {number} of {name}.", "vector": [1.0, float(name), float(number), 1.0]}]}


def race(server: AgentHubServer, token: str | None, path: str, clients: int) -> dict[str, Any]:
    """The figures of clients that each commit chunks one by one."""
    seconds: list[float] = []
    before = commits(server)

    def write(name: int) -> None:
        remote = Remote(server.url, token)
        for number in range(UPLOADS):
            began = time.monotonic()
            remote.post(f"{path}/chunks", chunk(name, number))
            seconds.append(time.monotonic() - began)

    began = time.monotonic()
    together(clients, write)
    taken, after = time.monotonic() - began, commits(server)
    moved = {result: after[result] - before.get(result, 0.0) for result in after}
    return {
        "clients": clients,
        "commits_a_second": round(clients * UPLOADS / taken, 1),
        "retries_a_commit": round(moved.get("rebased", 0.0) / moved["committed"], 2),
        "conflicts": moved.get("conflict", 0.0),
        "longest_seconds": round(max(seconds), 2),
    }


@pytest.mark.torture
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_writers_that_race_are_all_served_and_seldom_try_again(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = {"DATABASE_URL": str(request.getfixturevalue("migrated_postgresql"))} if backend == "postgresql" else {}
    with AgentHubServer(tmp_path, AGENTHUB_RATE_LIMITS="off", WEB_CONCURRENCY="2", **database, **OWNER) as server:
        remote = Remote(server.url).login(OWNER["AGENTHUB_OWNER_EMAIL"], OWNER["AGENTHUB_OWNER_PASSWORD"])
        for clients in (1, 2, 4, 8):
            body = {"name": f"race {clients}", "embedding_model": None, "dimension": 4}
            path = f"/api/knowledge-bases/{remote.post('/api/knowledge-bases', body, 201)['id']}"
            figures = race(server, remote.token, path, clients)
            sys.stdout.write(f"{backend} {json.dumps(figures)}\n")
            assert remote.get(path)["chunk_count"] == clients * UPLOADS, figures
            assert figures["retries_a_commit"] <= MOST_RETRIES, figures
            assert (figures["conflicts"], figures["longest_seconds"] <= MOST_SECONDS) == (0.0, True), figures


def patient(remote: Remote, path: str, body: dict[str, Any], key: str) -> int:
    """Send that until it is answered 200, always under one Idempotency-Key; how often it was not."""
    refused, limit = 0, time.monotonic() + 240
    while time.monotonic() < limit:
        try:
            answer = remote.client.post(path, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            refused += 1
            continue
        if answer.status_code == 200:
            return refused
        assert answer.status_code in (409, 429, 503), answer.text
        refused += 1
        time.sleep(0.1)
    raise AssertionError(f"{key} was refused {refused} times")


def besieged(server: AgentHubServer, token: str | None, path: str, database: PostgresqlServer, rounds: int) -> int:
    """Let four clients write while their database is killed and started again so often; how many requests were refused."""
    refused: list[int] = []
    over, failed = threading.Event(), threading.Event()

    def write(name: int) -> None:
        remote, number = Remote(server.url, token), 0
        while not over.is_set() or number < UPLOADS:
            refused.append(patient(remote, f"{path}/chunks", chunk(name, number), f"{name}-{number}"))
            number += 1
        remote.client.close()

    def kill() -> None:
        for _ in range(rounds):
            before = len(refused)
            while len(refused) < before + 8:  # some writes went through in between
                if failed.wait(0.01):
                    return
            database.stop("immediate")
            time.sleep(0.5)
            database.start()
        over.set()

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        together(4, write)
    finally:
        failed.set()
        killing.join()
    assert commits(server)["committed"] >= 1
    written = len(refused)
    assert Remote(server.url, token).get(path)["chunk_count"] == written, "each acknowledged chunk is there, and none twice"
    return sum(refused)


def crashing_database(folder: Path, database: PostgresqlServer, rounds: int) -> int:
    url = create_database(database.url())
    environment = os.environ | {"DATABASE_URL": url}
    subprocess.run([sys.executable, "-m", "agenthub.cli", "migrate"], cwd=ROOT, env=environment, check=True, timeout=240)
    with AgentHubServer(folder, AGENTHUB_RATE_LIMITS="off", DATABASE_URL=url, WEB_CONCURRENCY="2", **OWNER) as server:
        remote = Remote(server.url).login(OWNER["AGENTHUB_OWNER_EMAIL"], OWNER["AGENTHUB_OWNER_PASSWORD"])
        base = remote.post("/api/knowledge-bases", {"name": "crashing", "embedding_model": None, "dimension": 4}, 201)["id"]
        path = f"/api/knowledge-bases/{base}"
        refused = besieged(server, remote.token, path, database, rounds)
        report = remote.post(f"{path}/verify", {})
        assert not report.get("problems") and not report.get("damages"), report
        return refused


def test_a_database_that_is_killed_between_writers_loses_and_doubles_nothing(tmp_path: Path, postgresql_private: PostgresqlServer) -> None:
    crashing_database(tmp_path, postgresql_private, 1)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_database_that_is_killed_ten_times_loses_and_doubles_nothing(tmp_path: Path, postgresql_private: PostgresqlServer) -> None:
    sys.stdout.write(f"refused {crashing_database(tmp_path, postgresql_private, 10)}\n")


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
