"""Many tiny uploads at once, with searches between them: `python -m tests.system.flood DOCUMENTS CLIENTS FOLDER [DATABASE_URL]`.

Prints one JSON line with the figures of RELIABILITY.md's T21: segments, bytes written for bytes kept, answers by status, latencies.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.agenthub_server import AgentHubServer, Remote

OWNER = {"email": "owner@example.com", "password": "correct horse battery staple"}
WORDS = ["river", "mountain", "forest", "lantern", "harbour", "copper", "velvet", "thunder", "meadow", "orchid", "granite", "whisper"]
SEARCHES = 40


@dataclass
class Flood:
    """One run."""

    documents: int
    clients: int
    folder: Path
    statuses: Counter[int] = field(default_factory=Counter)
    upload_seconds: list[float] = field(default_factory=list)
    most_segments: int = 0

    def run(self, **environment: str) -> dict[str, Any]:
        owner = {"AGENTHUB_OWNER_EMAIL": OWNER["email"], "AGENTHUB_OWNER_PASSWORD": OWNER["password"]}
        with AgentHubServer(self.folder, **owner, **environment) as server:
            remote = Remote(server.url).login(OWNER["email"], OWNER["password"])
            base = remote.post("/api/knowledge-bases", {"name": "flood"}, 201)["id"]
            path = f"/api/knowledge-bases/{base}"
            for number in range(20):
                remote.post(f"{path}/documents", document(self.documents + number), 201)  # others: the same are not taken twice
            quiet = searches(remote, path)
            self._flood(server.url, remote, path)
            time.sleep(3)  # merging ends
            after = searches(remote, path)
            return self._figures(remote, path, base, quiet, after)

    def _flood(self, url: str, remote: Remote, path: str) -> None:
        numbers = iter(range(self.documents))
        lock, done = threading.Lock(), threading.Event()

        def upload() -> None:
            mine = Remote(url, remote.token)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                self._upload(mine, path, number)

        def watch() -> None:
            while not done.is_set():
                self.most_segments = max(self.most_segments, segments(self.folder, path.rsplit("/", 1)[1]))
                done.wait(0.2)

        watcher = threading.Thread(target=watch)
        threads = [threading.Thread(target=upload) for _ in range(self.clients)]
        for thread in (watcher, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()

    def _upload(self, remote: Remote, path: str, number: int) -> None:
        while True:
            started = time.monotonic()
            response = remote.client.post(f"{path}/documents", json=document(number))
            self.upload_seconds.append(time.monotonic() - started)
            self.statuses[response.status_code] += 1
            if response.status_code != 429:
                return
            time.sleep(float(response.headers["Retry-After"]))

    def _figures(self, remote: Remote, path: str, base: str, quiet: float, after: float) -> dict[str, Any]:
        folder = self.folder / "knowledge" / base
        current = newest_manifest(folder)
        kept = sum(entry["size_bytes"] for entry in current["segments"])
        written = {kind: sum(file.stat().st_size for file in (folder / kind).rglob("*") if file.is_file()) for kind in KINDS}
        return {
            "documents": remote.get(path)["document_count"],
            "generation": current["generation"],
            "segments": len(current["segments"]),
            "most_segments": self.most_segments,
            "statuses": dict(self.statuses),
            "bytes_written": written,
            "segment_bytes_kept": kept,
            "written_for_kept": round(written["segments"] / kept, 2),
            "upload_p50_ms": round(1000 * statistics.median(self.upload_seconds), 1),
            "upload_p95_ms": round(1000 * statistics.quantiles(self.upload_seconds, n=20)[18], 1),
            "search_p95_ms_before": round(1000 * quiet, 1),
            "search_p95_ms_after": round(1000 * after, 1),
        }


KINDS = ("segments", "manifests", "originals")


def document(number: int) -> dict[str, Any]:
    """A document of about 1 kB."""
    pick = random.Random(number)
    return {"title": f"note {number}", "text": " ".join(pick.choice(WORDS) for _ in range(135))}


def searches(remote: Remote, path: str) -> float:
    """The 95th percentile of some searches' seconds."""
    taken = []
    for number in range(SEARCHES):
        started = time.monotonic()
        remote.post(f"{path}/search", {"query": f"{WORDS[number % len(WORDS)]} {number}", "top_k": 10})
        taken.append(time.monotonic() - started)
    return statistics.quantiles(taken, n=20)[18]


def newest_manifest(folder: Path) -> Any:
    """The manifest of the highest generation: nothing is deleted in a flood, so it is the current one."""
    newest = max((folder / "manifests").iterdir(), key=lambda path: int(path.name.split("-")[0]))
    return json.loads(newest.read_bytes())


def segments(folder: Path, base: str) -> int:
    """How many segments the newest manifest lists now; 0 while it is being written."""
    try:
        return len(newest_manifest(folder / "knowledge" / base)["segments"])
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    database = {"DATABASE_URL": sys.argv[4]} if len(sys.argv) > 4 else {}
    figures = Flood(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])).run(**database)
    sys.stdout.write(json.dumps(figures) + "\n")
