"""The main job on real input, kill -9 of the whole process group in between: everything acknowledged is still there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.servers.agenthub_server import AgentHubServer, Remote

DOCUMENTS = Path(__file__).parents[3] / "shared" / "data" / "documents"
QUESTIONS = ["Who taught Aristotle?", "password hashing requirements", "negative stat cache entries"]


def answers(client: Remote, base: str) -> Any:
    return client.post(f"/api/knowledge-bases/{base}/search", {"queries": QUESTIONS})


def test_nothing_acknowledged_is_lost_when_the_power_button_is_hit(tmp_path: Path) -> None:
    owner = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
    server = AgentHubServer(tmp_path, **owner).start()
    try:
        client = Remote(server.url).login(*owner.values())
        base = client.post("/api/knowledge-bases", {"name": "library"}, 201)["id"]
        agent = client.post("/api/agents", {"name": "Librarian", "knowledge_base_ids": [base]}, 201)
        files = [
            ("files", (p.name, p.read_bytes()))
            for p in sorted(DOCUMENTS.iterdir())
            if p.suffix in (".txt", ".md", ".html", ".xlsx", ".csv")
        ]
        report = client.post(f"/api/knowledge-bases/{base}/documents", None, 207, files=files)
        assert report["refused"] == 0
        before = answers(client, base)
        server.kill()
        server.start()
        again = Remote(server.url, client.token)
        assert again.get("/api/auth/me")["email"] == "owner@example.com"
        assert again.get(f"/api/agents/{agent['id']}") == agent
        assert answers(again, base) == before
        assert server.stop() == 0
    finally:
        server.kill()
