"""T5: replicas whose workers are killed at random while writers write and readers read; then the history is checked.

Usage: `python -m tests.faults.kill_storm SECONDS SEED DATABASE_URL FOLDER`. Two servers of two workers over one database and one volume,
six writers, one reader per server. Each line of the history is an operation with its outcome (ok, refused, unknown) and generation.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.faults.figures import Figures
from tests.servers.agenthub_server import AgentHubServer, Remote

OWNER: Final = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
WRITERS: Final = 6


@dataclass
class Storm:
    """What happened so far."""

    urls: list[str]
    token: str
    base: str
    ends: float
    seed: int
    history: list[dict[str, Any]] = field(default_factory=list)
    kills: int = 0

    def request(self, client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response | None:
        """The answer, or None when there was none."""
        headers = {"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        try:
            return client.request(method, path, headers=headers, **arguments)
        except httpx.TransportError:
            return None

    def note(self, **line: Any) -> None:
        self.history.append(line | {"at": time.monotonic()})


def write(storm: Storm, writer: int) -> None:
    """Add chunks and delete some of one's own; a write without an answer is repeated twice with its key, at either replica."""
    chooser, mine, number = random.Random(storm.seed + writer), list[str](), 0
    clients = [httpx.Client(base_url=url, timeout=30) for url in storm.urls]
    while time.monotonic() < storm.ends:
        number += 1
        chunk = mine.pop() if mine and chooser.random() < 0.2 else f"w{writer}-{number}"
        deleting = chunk != f"w{writer}-{number}"
        item = {"id": chunk, "text": chunk, "vector": [1, writer, number, 1]}
        path = f"{storm.base}/chunks/delete" if deleting else f"{storm.base}/chunks"
        body: Any = {"ids": [chunk]} if deleting else {"items": [item]}
        outcome, generation = "unknown", None
        for _ in range(3):
            key = {"Idempotency-Key": f"{writer}-{number}"}
            answer = storm.request(chooser.choice(clients), "POST", path, json=body, headers=key)
            if answer is not None and answer.status_code < 500:
                outcome = "ok" if answer.status_code < 300 else "refused"
                generation = answer.json().get("generation")
                break
        storm.note(process=writer, chunk=chunk, deleting=deleting, outcome=outcome, generation=generation)
        if outcome == "ok" and not deleting:
            mine.append(chunk)


def read(storm: Storm, number: int) -> None:
    """Ask for the generation again and again; it never goes back for one that asks one after the other."""
    with httpx.Client(base_url=storm.urls[number], timeout=30) as client:
        while time.monotonic() < storm.ends:
            answer = storm.request(client, "GET", storm.base)
            if answer is not None and answer.status_code == 200:
                storm.note(process=f"reader {number}", outcome="read", generation=answer.json()["generation"])
            time.sleep(0.05)


def kill(storm: Storm, servers: list[AgentHubServer]) -> None:
    """SIGKILL for a random worker of a random server, every 0.5 to 2 seconds."""
    chooser = random.Random(storm.seed)
    while time.monotonic() < storm.ends:
        time.sleep(chooser.uniform(0.5, 2))
        master = chooser.choice(servers).process
        assert master is not None
        with suppress(OSError, IndexError):
            workers = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
            os.kill(int(chooser.choice(workers)), signal.SIGKILL)
            storm.kills += 1


def check(storm: Storm, figures: Figures, client: Remote) -> None:
    """Acknowledged is there once and unacknowledged at most once; generations are one chain; no reader went back."""
    outcomes: dict[str, dict[bool, str]] = {}
    generations: list[int] = []
    last: dict[str, int] = {}
    for line in storm.history:
        figures.counts[line["outcome"]] += 1
        if line["outcome"] == "read":
            figures.expect(line["generation"] >= last.get(line["process"], 0), f"{line} after generation {last.get(line['process'])}")
            last[line["process"]] = line["generation"]
            continue
        outcomes.setdefault(line["chunk"], {})[line["deleting"]] = line["outcome"]
        generations += [line["generation"]] if line["outcome"] == "ok" and line["generation"] else []
    figures.counts["kills"] = storm.kills
    for chunk, done in outcomes.items():
        allowed = {200, 404}
        if done.get(True) == "ok" or done[False] == "refused":
            allowed = {404}
        elif done[False] == "ok" and done.get(True) in (None, "refused"):
            allowed = {200}
        status = client.client.get(f"{storm.base}/chunks/{chunk}").status_code
        figures.expect(status in allowed, f"{chunk}: {done}, and then {status}")
    newest = client.get(storm.base)["generation"]
    figures.expect(all(one <= newest for one in generations), "an acknowledged generation is newer than the newest")
    report = client.post(f"{storm.base}/verify", {})
    figures.expect(report["intact"], json.dumps(report["problems"][:5]))


def main(seconds: float, seed: int, database_url: str, folder: Path) -> int:
    figures = Figures("T5 kill storm", seed)
    environment = {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "AGENTHUB_LOG_LEVEL": "warning", **OWNER}
    servers = [AgentHubServer(folder, **environment) for _ in range(2)]
    try:
        for server in servers:
            server.start()
        client = Remote(servers[0].url).login(*OWNER.values())
        made = client.post("/api/knowledge-bases", {"name": f"storm {seed}", "embedding_model": None, "dimension": 4}, 201)
        base = f"/api/knowledge-bases/{made['id']}"
        storm = Storm([server.url for server in servers], client.token or "", base, time.monotonic() + seconds, seed)
        threads = [threading.Thread(target=write, args=(storm, number)) for number in range(WRITERS)]
        threads += [threading.Thread(target=read, args=(storm, number)) for number in range(2)]
        threads.append(threading.Thread(target=kill, args=(storm, servers)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(3)
        figures.injections, figures.operations = storm.kills, len(storm.history)
        check(storm, figures, Remote(servers[0].url, client.token))
    finally:
        for server in servers:
            server.kill()
    return figures.finish()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
