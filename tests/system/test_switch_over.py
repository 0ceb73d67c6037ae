"""A live switch-over from SQLite to PostgreSQL while several processes write over HTTP: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.servers.agenthub_server import AgentHubServer, Remote

ROOT = Path(__file__).parents[2]
OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
SERVICES = {"AGENTHUB_SERVICES": "agents.*,platform.*", "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on", "WEB_CONCURRENCY": "2"}
WRITERS = 4


def command(*arguments: str, **environment: str) -> str:
    settings = os.environ | SERVICES | environment
    done = subprocess.run(
        [sys.executable, "-m", "agenthub.cli", "storage", *arguments],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(client: Remote) -> Counter[str]:
    """Every agent there is, by name."""
    found: Counter[str] = Counter()
    cursor = ""
    while True:
        page = client.get(f"/api/agents?limit=200{cursor}")
        found.update(item["name"] for item in page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_a_live_switch_over_loses_nothing_that_was_acknowledged(tmp_path: Path, postgresql_database: str) -> None:
    here, ends = f"sqlite:///{tmp_path}/rows.db", tmp_path / "ends"
    old = AgentHubServer(tmp_path, DATABASE_URL=here, **OWNER, **SERVICES)
    new = AgentHubServer(tmp_path, DATABASE_URL=postgresql_database, **OWNER, **SERVICES)
    with old:
        token = Remote(old.url).login(*OWNER.values()).token or ""
        loads = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.system.switch_load", token, str(number), str(ends), old.url, new.url],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(WRITERS)
        ]
        try:
            time.sleep(1)
            command("copy", "--from", here, "--to", postgresql_database, "--follow", "--once")
            with new:  # serves what was copied, and refuses writes until the switch
                said = command("switch", "--from", here, "--to", postgresql_database)
                assert "rows verified, 0 repaired" in said
                time.sleep(1)
                ends.touch()
                outputs = [load.communicate(timeout=60) for load in loads]
                assert [error for _, error in outputs if error] == []
                acknowledged = [line for output, _ in outputs for line in output.splitlines()]
                stored = names(Remote(new.url, token))
                assert stored == Counter(acknowledged), "each acknowledged agent is there once"
                assert len(acknowledged) > 20 * WRITERS
                refused = Remote(old.url, token).call("POST", "/api/agents", 503, json={"name": "late"})["error"]
                assert refused["code"] == "writes_paused"
                assert Remote(old.url).client.get("/api/health/ready").status_code == 503
                assert Remote(new.url).client.get("/api/health/ready").status_code == 200
                assert "moved" in command("status", DATABASE_URL=here)
        finally:
            ends.touch()
            for load in loads:
                load.kill()
                load.wait()
