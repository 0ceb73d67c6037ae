"""A PDF of 1,000 pages and 200 MB of JSON lines come in with at most 512 MiB above what the idle processes hold."""

from __future__ import annotations

import base64
import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.rag.parsing.conftest import build_pdf
from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.system.process_tree import Held, TreeWatch, held
from tests.system.workers import worker

OWNER = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
MIB = 1024 * 1024
MOST_BYTES = 512 * MIB
PAGES = 1_000
RECORD_BYTES = 200_000_000
DIMENSION = 384
SETTLED_SECONDS = 20.0
WORDS = [
    "otter",
    "heron",
    "river",
    "newt",
    "pond",
    "bank",
    "swim",
    "lamp",
    "keeper",
    "light",
    "dusk",
    "night",
    "storm",
    "shore",
    "tide",
    "boat",
]


def pdf() -> bytes:
    """A thousand dense pages of words by chance: lines that are alike on every page would pass for headers."""
    pick = random.Random(1)
    return build_pdf([[(40, 800 - 12 * line, " ".join(pick.choices(WORDS, k=9))) for line in range(60)] for _ in range(PAGES)])


def records() -> Iterator[bytes]:
    """JSON lines with vectors, as many as fit into 200 MB."""
    rng = np.random.default_rng(1)
    size = number = 0
    while size < RECORD_BYTES:
        vector = base64.b64encode(rng.normal(size=DIMENSION).astype("<f4").tobytes()).decode()
        line = {"id": f"r{number}", "text": f"Record {number} says that it is number {number}.", "vector": vector}
        data = json.dumps(line).encode() + b"\n"
        size, number = size + len(data), number + 1
        yield data


def ended(remote: Remote, job: str, seconds: float = 3000) -> Any:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found = remote.get(f"/api/jobs/{job}")
        if found["finished_at"] is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"the job did not end: {remote.get(f'/api/jobs/{job}')}")


def warmed(remote: Remote) -> None:
    """Let everything be loaded that stays loaded: the model, the recogniser of languages, the parsers' modules."""
    base = remote.post("/api/knowledge-bases", {"name": "warm"}, 201)["id"]
    texts = {"a.md": "# Otters\n\nOtters swim in the river, and herons wait at its banks. " * 5, "b.txt": "Newts live in ponds. " * 20}
    sent = [("files", (name, text.encode())) for name, text in texts.items()]
    job = remote.call("POST", f"/api/knowledge-bases/{base}/documents?wait=0", 202, files=sent)["job"]["id"]
    assert ended(remote, job)["status"] == "succeeded"
    remote.post(f"/api/knowledge-bases/{base}/search", {"query": "where do otters swim?"})
    time.sleep(SETTLED_SECONDS)


def send_pdf(remote: Remote) -> tuple[str, str]:
    base = remote.post("/api/knowledge-bases", {"name": "pdf"}, 201)["id"]
    files = [("files", ("thousand.pdf", pdf()))]
    return base, remote.call("POST", f"/api/knowledge-bases/{base}/documents?wait=0", 202, files=files)["job"]["id"]


def send_records(remote: Remote) -> tuple[str, str]:
    base = remote.post("/api/knowledge-bases", {"name": "records", "embedding_model": None, "dimension": DIMENSION}, 201)["id"]
    headers = {"Content-Type": "application/jsonl"}
    answer = remote.call("POST", f"/api/knowledge-bases/{base}/records", 202, content=records(), headers=headers)
    return base, answer["job"]["id"]


def above(peak: Held, idle: Held) -> dict[str, int]:
    return {"idle_mib": idle.pss // MIB, "pss_mib": (peak.pss - idle.pss) // MIB, "own_mib": (peak.own - idle.own) // MIB}


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["pdf", "records"])
@pytest.mark.parametrize("who", ["server", "worker"])
def test_large_files_come_in_with_bounded_memory(what: str, who: str, tmp_path: Path) -> None:
    """`server`: one process does everything; `worker`: it takes the file, and a worker does the job. Both trees are watched."""
    jobs = {"AGENTHUB_JOBS": "off"} if who == "worker" else {}
    with AgentHubServer(tmp_path, WEB_CONCURRENCY="1", **jobs, **OWNER) as server:
        assert server.process is not None
        remote = Remote(server.url).login(OWNER["AGENTHUB_OWNER_EMAIL"], OWNER["AGENTHUB_OWNER_PASSWORD"])
        if who == "worker":
            with worker(tmp_path) as process:
                figures = measured(what, remote, {"server": server.process.pid, "worker": process.pid})
        else:
            figures = measured(what, remote, {"server": server.process.pid})
    sys.stdout.write(f"{json.dumps(figures)}\n")
    assert max(tree["pss_mib"] for tree in figures["trees"].values()) <= MOST_BYTES // MIB, figures


def measured(what: str, remote: Remote, pids: dict[str, int]) -> dict[str, Any]:
    """Send the file and wait until it is all there and merging has had its time."""
    warmed(remote)
    idle = {name: held(pid) for name, pid in pids.items()}
    with ExitStack() as stack:
        watches = {name: stack.enter_context(TreeWatch(pid)) for name, pid in pids.items()}
        began = time.monotonic()
        base, job = send_pdf(remote) if what == "pdf" else send_records(remote)
        accepted = time.monotonic() - began
        done = ended(remote, job)
        taken = time.monotonic() - began
        time.sleep(SETTLED_SECONDS)
    found = remote.get(f"/api/knowledge-bases/{base}")
    assert done["status"] == "succeeded", done
    assert found["chunk_count"] >= PAGES, found
    trees = {name: above(watch.peak, idle[name]) for name, watch in watches.items()}
    return {"what": what, "accepted_s": round(accepted, 1), "done_s": round(taken, 1), "chunks": found["chunk_count"], "trees": trees}
