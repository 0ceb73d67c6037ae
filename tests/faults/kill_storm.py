"""T5: replicas whose workers are killed at random while writers write and readers read; then the recorded history is checked.

Usage: `python -m tests.faults.kill_storm SECONDS SEED DATABASE_URL FOLDER [KILLS]`. Two servers of two workers over one database and one
volume, six writers, one reader per server. It ends after SECONDS, or as soon as there were KILLS. What is checked stands in
tests/faults/histories.py; the history itself is left in `history.jsonl`.

Two figures say how available it was: requests answered at once, and those answered at once or after the one repeat that load balancers
and clients make of a request that may be repeated (a read, or a write with an Idempotency-Key) when its connection breaks.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import sys
import tarfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import numpy as np

from agenthub.rag.vectors import Vectors, unit_vectors
from tests.faults.figures import Figures
from tests.faults.histories import Event, backward_problems, chain_problems, content_problems, order_problems
from tests.servers.agenthub_server import AgentHubServer, Remote

OWNER: Final = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
WRITERS: Final = 6
TRIES: Final = 6
"""How often a write is sent that gets no answer."""
SAMPLED: Final = 8
"""Old generations whose whole content is compared, beside the newest."""
_PAUSE_SECONDS: Final = 0.2
_WEDGED_SECONDS: Final = 120.0
"""A writer that is told to wait for so long after the last kill waits for nothing."""


@dataclass
class Storm:
    """What happened so far."""

    urls: list[str]
    token: str
    base: str
    ends: float
    seed: int
    history: list[Event] = field(default_factory=list)
    kills: int = 0
    slowed: int = 0
    wedged: int = 0
    tries: Counter[int] = field(default_factory=Counter)
    """How many requests were answered at which try; 0 counts those that never were."""
    failures: Counter[str] = field(default_factory=Counter)
    """What first tries ended with that were not answered."""

    def request(self, client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response | str:
        """The answer, or the name of what came instead."""
        headers = {"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        try:
            answer = client.request(method, path, headers=headers, **arguments)
        except httpx.TransportError as error:
            return type(error).__name__
        return answer if answer.status_code < 500 else str(answer.status_code)

    def count(self, number: int, answer: httpx.Response | str) -> None:
        """Note how a try went: `number` from 1."""
        if not isinstance(answer, str):
            self.tries[number] += 1
        elif number == 1:
            self.failures[answer] += 1


@dataclass
class Writer:
    """One client that adds chunks and deletes some of its own."""

    storm: Storm
    number: int
    mine: list[str] = field(default_factory=list)
    count: int = 0

    def run(self) -> None:
        chooser = random.Random(self.storm.seed + self.number)
        clients = clients_of(self.storm)
        while time.monotonic() < self.storm.ends:
            self.count += 1
            deleting = bool(self.mine) and chooser.random() < 0.2
            chunk = self.mine.pop(chooser.randrange(len(self.mine))) if deleting else f"w{self.number}-{self.count}"
            vector = [1.0, self.number, self.count, 1.0]
            body: Any = {"ids": [chunk]} if deleting else {"items": [{"id": chunk, "text": chunk, "vector": vector}]}
            began = time.monotonic()
            outcome, generation = self._send(chooser, clients, "/chunks/delete" if deleting else "/chunks", body)
            digest = "" if deleting else digest_of(chunk, np.array(vector, dtype=np.float32))
            kind: Literal["add", "delete"] = "delete" if deleting else "add"
            self.storm.history.append(Event(f"writer {self.number}", kind, outcome, began, time.monotonic(), generation, chunk, digest))
            if outcome == "ok" and not deleting:
                self.mine.append(chunk)

    def _send(
        self, chooser: random.Random, clients: list[httpx.Client], path: str, body: Any
    ) -> tuple[Literal["ok", "refused", "unknown"], int | None]:
        """Outcome and generation. Without an answer it is sent again with its key, to the other replica: at once, then after pauses."""
        tries, first = 0, chooser.randrange(len(clients))
        while tries < TRIES:
            key = {"Idempotency-Key": f"{self.number}-{self.count}"}
            client = clients[(first + tries) % len(clients)]
            answer = self.storm.request(client, "POST", f"{self.storm.base}{path}", json=body, headers=key)
            if not isinstance(answer, str) and answer.status_code == 429:
                self.storm.slowed += 1
                if time.monotonic() > self.storm.ends + _WEDGED_SECONDS:
                    self.storm.wedged += 1
                    return "refused", None
                time.sleep(float(answer.headers["Retry-After"]))
                continue
            tries += 1
            self.storm.count(tries, answer)
            if not isinstance(answer, str):
                return "ok" if answer.status_code < 300 else "refused", answer.json().get("generation")
            if tries > 1:
                time.sleep(_PAUSE_SECONDS * 2 ** (tries - 2))
        self.storm.tries[0] += 1
        return "unknown", None


def clients_of(storm: Storm) -> list[httpx.Client]:
    """A client with connections of its own for each replica."""
    return [httpx.Client(base_url=url, timeout=30) for url in storm.urls]


def digest_of(text: str, vector: Vectors) -> str:
    """What a chunk is: its text and the bytes of its vector as they are kept."""
    return hashlib.sha256(text.encode() + unit_vectors(vector[np.newaxis]).tobytes()).hexdigest()


def read(storm: Storm, number: int) -> None:
    """Ask for the generation again and again, once more at the other replica where a connection broke."""
    clients = clients_of(storm)
    while time.monotonic() < storm.ends:
        for tries in (1, 2):
            began = time.monotonic()
            answer = storm.request(clients[(number + tries) % len(clients)], "GET", storm.base)
            storm.count(tries, answer)
            if not isinstance(answer, str) and answer.status_code == 200:
                storm.history.append(Event(f"reader {number}", "read", "ok", began, time.monotonic(), answer.json()["generation"]))
                break
        else:
            storm.tries[0] += 1
        time.sleep(0.05)


def kill(storm: Storm, servers: list[AgentHubServer], kills: int | None) -> None:
    """SIGKILL for a random worker of a random server, every 0.5 to 2 seconds; the end when there were so many."""
    chooser = random.Random(storm.seed)
    while time.monotonic() < storm.ends:
        if storm.kills == kills:
            storm.ends = time.monotonic()
            return
        time.sleep(chooser.uniform(0.5, 2))
        master = chooser.choice(servers).process
        assert master is not None
        with suppress(OSError, IndexError):
            workers = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
            os.kill(int(chooser.choice(workers)), signal.SIGKILL)
            storm.kills += 1


# --- what there is afterwards ---


def every_change(client: Remote, base: str) -> list[dict[str, Any]]:
    """The whole list of generations."""
    changes: list[dict[str, Any]] = []
    page = client.get(f"{base}/generations?limit=200")
    while True:
        changes += page["items"]
        if page["next_cursor"] is None:
            return changes
        page = client.get(f"{base}/generations?limit=200&cursor={page['next_cursor']}")


def content_of(client: Remote, base: str, generation: int) -> dict[str, str]:
    """Every chunk of a generation, from its bundle."""
    content: dict[str, str] = {}
    chunks: list[dict[str, Any]] = []
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{base}/export?generation={generation}"))) as bundle:
        for member in bundle:
            file = bundle.extractfile(member)
            data = file.read() if file else b""
            if member.name.startswith("chunks-"):
                chunks = [json.loads(line) for line in data.splitlines()]
            if member.name.startswith("vectors-"):
                vectors = np.frombuffer(data, dtype="<f4").reshape(len(chunks), -1)
                content |= {chunk["id"]: digest_of(chunk["text"], vector) for chunk, vector in zip(chunks, vectors, strict=True)}
    return content


def check(storm: Storm, figures: Figures, client: Remote) -> None:
    """The history explains what there is, and what there is explains the history."""
    changes = every_change(client, storm.base)
    kept = sorted(change["generation"] for change in changes if change["retained"])
    chosen = sorted({*random.Random(storm.seed).sample(kept, min(SAMPLED, len(kept))), kept[-1]})
    figures.violations += order_problems(storm.history) + backward_problems(storm.history) + chain_problems(storm.history, changes)
    for generation in chosen:
        figures.violations += content_problems(storm.history, generation, content_of(client, storm.base, generation))
    figures.expect(storm.wedged == 0, f"{storm.wedged} writers were told to wait for ever")
    report = client.post(f"{storm.base}/verify", {})
    figures.expect(report["intact"], json.dumps(report["problems"][:5]))
    writes = [event for event in storm.history if event.kind != "read"]
    answered = sum(event.outcome != "unknown" for event in writes)
    figures.counts["reads"] = len(storm.history) - len(writes)
    figures.counts["generations"], figures.counts["compared generations"] = kept[-1], len(chosen)
    figures.counts["told to wait"] = storm.slowed
    requests = max(1, storm.tries.total())
    figures.counts["requests"] = requests
    figures.counts["answered at once, per 10,000"] = 10_000 * storm.tries[1] // requests
    figures.counts["answered with one repeat, per 10,000"] = 10_000 * (storm.tries[1] + storm.tries[2]) // requests
    figures.counts.update({f"not answered at once: {what}": count for what, count in storm.failures.items()})
    figures.counts["answered in the end, per mille"] = 1000 * answered // max(1, len(writes))
    figures.counts.update(event.outcome for event in writes)


def main(seconds: float, seed: int, database_url: str, folder: Path, kills: int | None = None) -> int:
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
        threads = [threading.Thread(target=Writer(storm, number).run) for number in range(WRITERS)]
        threads += [threading.Thread(target=read, args=(storm, number)) for number in range(2)]
        threads.append(threading.Thread(target=kill, args=(storm, servers, kills)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (folder / "history.jsonl").write_text("".join(json.dumps(asdict(event)) + "\n" for event in storm.history))
        time.sleep(3)
        figures.injections, figures.operations = storm.kills, len(storm.history)
        check(storm, figures, Remote(servers[0].url, client.token))
    finally:
        for server in servers:
            server.kill()
    return figures.finish()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), *map(int, sys.argv[5:])))
