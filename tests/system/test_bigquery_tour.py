"""The tour of the README with nothing but a Google Cloud project for its rows: real gunicorn, the BigQuery emulator, kill -9 between."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agenthub.storage.configuration import BigQuerySettings
from tests.servers.agenthub_server import ROOT, AgentHubServer, Remote
from tests.servers.bigquery import BigQueryPlace
from tests.system.test_restart import DOCUMENTS, answers

KNOWN = "At what age did Aristotle join the Academy of Plato?"
UNKNOWN = "Who won the chess championship of 1972?"
OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}


@pytest.fixture
def server(tmp_path: Path, bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings) -> AgentHubServer:
    """A server with an empty DATABASE_URL and a project, not started."""
    rows = {"DATABASE_URL": "", **bigquery_place.environment(bigquery_dataset), "AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "60"}
    return AgentHubServer(tmp_path, **OWNER, **rows, AGENTHUB_MAINTENANCE="off", AGENTHUB_WORKER_TIMEOUT_SECONDS="180")


def run(server: AgentHubServer, *words: str) -> str:
    """What an operator's command prints."""
    command = [sys.executable, "-m", "agenthub.cli", *words]
    done = subprocess.run(command, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=True, timeout=180)
    return done.stdout


def uploaded(client: Remote, base: str, files: list[Any]) -> dict[str, int]:
    """Upload the files and wait for the job that reads them."""
    url = f"/api/knowledge-bases/{base}/documents?wait=0"
    return ended(client, client.post(url, None, 202, files=files)["job"])


def ended(client: Remote, job: Any) -> dict[str, int]:
    """Wait for the job, by asking for it: commits take their time on the emulator. How many items succeeded and failed."""
    limit = time.monotonic() + 600
    while job["status"] in ("queued", "running") and time.monotonic() < limit:
        time.sleep(2)
        job = client.get(f"/api/jobs/{job['id']}")
        job = job.get("job", job)
    return {name: job["progress"][name] for name in ("succeeded", "failed")}


def wait_until_free(port: int) -> None:
    """Wait for the last child of a killed server to notice that its parent is gone: it may hold the port so long."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.2)


def goes_back_and_forth(client: Remote, base: str) -> None:
    """A document is replaced; the older generation is searched, brought back and left again; a FAQ answers for itself."""
    path = f"/api/knowledge-bases/{base}"
    note = {"title": "Meeting", "text": "The meeting is on Tuesday."}
    assert ended(client, client.post(f"{path}/documents?wait=0", note, 202)["job"])["succeeded"] == 1
    then = client.get(path)["generation"]
    key = next(one["id"] for one in client.get(f"{path}/documents?limit=100")["items"] if one["title"] == "Meeting")
    moved = note | {"text": "The meeting moved to Friday."}
    job = client.call("PUT", f"{path}/documents/{key}?wait=0", 202, json=moved)["job"]
    assert ended(client, job)["succeeded"] == 1

    def when(**more: Any) -> str:
        found = client.post(f"{path}/search", {"query": "when is the meeting", "mode": "semantic", "top_k": 1, **more})
        return str(found["hits"][0]["text"])

    assert [when(), when(generation=then)] == ["The meeting moved to Friday.", "The meeting is on Tuesday."]
    assert client.post(f"{path}/undo", {})["restored_generation"] == then
    assert when() == "The meeting is on Tuesday."
    client.post(f"{path}/restore", {"generation": then + 1})
    assert when() == "The meeting moved to Friday."
    client.post("/api/faqs", {"knowledge_base_id": base, "question": "When is the library open?", "answer": "From nine to five."}, 201)
    answer = client.post("/api/rag/query", {"question": "when is the library OPEN", "knowledge_base_ids": [base]})
    assert answer["answer"] == "From nine to five. [1]"


@pytest.mark.timeout(1800)
@pytest.mark.torture  # three minutes on the emulator
def test_the_tour_with_only_a_project(server: AgentHubServer) -> None:
    command = [sys.executable, "-m", "agenthub.cli", "owner", "--email", "owner@example.com"]
    refused = subprocess.run(command, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False, timeout=180)
    assert refused.returncode != 0
    assert "make migrate" in refused.stderr
    assert run(server, "migrate").startswith("bigquery: schema revision 00")
    assert run(server, "migrate").startswith("bigquery: schema revision 00")
    with server:
        client = Remote(server.url).login(*OWNER.values())
        base = client.post("/api/knowledge-bases", {"name": "library"}, 201)["id"]
        agent = client.post("/api/agents", {"name": "Librarian", "knowledge_base_ids": [base]}, 201)
        files = [("files", (path.name, path.read_bytes())) for path in sorted(DOCUMENTS.glob("*.*"))]
        assert uploaded(client, base, files) == {"succeeded": len(files) - 1, "failed": 1}, "all but the scan without text"
        before = answers(client, base)
        tops = [found["hits"][0]["metadata"]["filename"] for found in before["results"]]
        assert [name.partition("-")[0].removesuffix(".txt") for name in tops] == ["aristotle", "asvs", "gcsfuse"]
        asked = [client.post("/api/rag/query", {"question": question, "knowledge_base_ids": [base]}) for question in (KNOWN, UNKNOWN)]
        assert [answer["kind"] for answer in asked] == ["extractive", "none"]
        assert {citation["filename"] for citation in asked[0]["citations"]} == {"aristotle.txt"}
        server.kill()
        wait_until_free(server.port)
        server.start()
        again = Remote(server.url, client.token)
        assert again.get("/api/auth/me")["email"] == "owner@example.com"
        assert again.get(f"/api/agents/{agent['id']}") == agent
        assert answers(again, base) == before
        assert again.get("/api/health/ready")["status"] == "ok"
        goes_back_and_forth(again, base)
        again.post("/api/auth/logout", status=204)
        again.call("GET", "/api/auth/me", 401)
        assert server.stop() == 0
