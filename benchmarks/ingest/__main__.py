"""How fast documents come in, against the bare encoder: `python -m benchmarks.ingest [--documents N] [--rounds N] [--seconds S]`.

A fresh server with the embedded defaults takes folders of Markdown files by jobs: read in child processes, cut, embedded and
committed. In each round another knowledge base is searched while the server is idle; a folder comes in; the same chunks are
embedded by the encoder alone, on both cores, one text a call; and a second folder comes in under searches. So all forms see the
same machine, whose speed may vary. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx

from agenthub.rag.embedding.configuration import default_model_directory
from agenthub.rag.embedding.local import LocalEmbedder
from agenthub.rag.segment import Chunk
from benchmarks.retrieval.client import BenchmarkFailure
from benchmarks.retrieval.server import RunningServer, temporary_server

PER_REQUEST: Final = 50
SEARCHES_PER_SECOND: Final = 4.0
_WORDS: Final = Path(__file__).parents[2].parent / "shared" / "data" / "documents" / "aristotle.txt"


def document(number: int, words: list[str]) -> str:
    """A Markdown file of some pages whose chunks are like no other's."""
    pick = random.Random(number)  # noqa: S311 - reproducible text
    sections = (f"## Section {index}\n\n{' '.join(pick.choices(words, k=350))}." for index in range(6))
    return f"# Document {number}\n\n" + "\n\n".join(sections)


class Hub:
    """The part of the API that is measured."""

    def __init__(self, url: str, email: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=300, trust_env=False)
        token = self.call("POST", "/api/auth/login", json={"email": email, "password": password})["session_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The answer's body. Raises: BenchmarkFailure when it is not a success."""
        answer = self._http.request(method, path, **arguments)
        if not answer.is_success:
            raise BenchmarkFailure(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def base(self, name: str) -> str:
        """A new knowledge base's path."""
        return f"/api/knowledge-bases/{self.call('POST', '/api/knowledge-bases', json={'name': name})['id']}"

    def upload(self, base: str, files: list[tuple[str, str]]) -> str:
        """Send files without waiting; the job's id."""
        sent = [("files", (name, text.encode(), "text/markdown")) for name, text in files]
        return str(self.call("POST", f"{base}/documents?wait=0", files=sent)["job"]["id"])

    def ended(self, job: str) -> bool:
        """Whether the job has ended. Raises: BenchmarkFailure when it did not succeed."""
        found = self.call("GET", f"/api/jobs/{job}")
        if found["status"] in ("partly", "failed", "cancelled"):
            raise BenchmarkFailure(f"job {job}: {found}")
        return bool(found["status"] == "succeeded")

    def texts(self, base: str) -> Iterator[str]:
        """What was embedded of every chunk."""
        for found in self._all(f"{base}/documents"):
            for chunk in self._all(f"{base}/documents/{found['id']}/chunks"):
                yield Chunk("", None, chunk["text"], {}, chunk["context"]).searched_text

    def _all(self, path: str) -> Iterator[Any]:
        cursor = ""
        while True:
            page = self.call("GET", f"{path}?limit=200{cursor}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"


class Searches:
    """Asks another knowledge base questions at a steady rate, in a thread, while the block runs."""

    def __init__(self, hub: Hub, base: str, seconds: list[float]) -> None:
        """`seconds` gets the time of each search."""
        self._hub, self._base = hub, base
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            started = time.monotonic()
            self._hub.call("POST", f"{self._base}/search", json={"query": f"who taught question {number} {started}", "top_k": 10})
            taken = time.monotonic() - started
            self._seconds.append(taken)
            if self._over.wait(max(0.0, 1 / SEARCHES_PER_SECOND - taken)):
                return


def p95_ms(seconds: list[float]) -> float:
    """The 95th percentile in milliseconds."""
    return round(1000 * statistics.quantiles(seconds, n=20)[18], 1)


@dataclass
class Figures:
    """What the rounds showed. Chunks and seconds are sums, searches all of a kind."""

    chunks: int = 0
    quiet_seconds: float = 0.0
    bare_seconds: float = 0.0
    searched_chunks: int = 0
    searched_seconds: float = 0.0
    shares: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """As one line of the result."""
        return {
            "chunks": self.chunks,
            "ingest_chunks_a_second": round(self.chunks / self.quiet_seconds, 1),
            "bare_chunks_a_second": round(self.chunks / self.bare_seconds, 1),
            "share_of_bare": round(self.bare_seconds / self.quiet_seconds, 3),
            "share_of_bare_by_round": [round(share, 3) for share in self.shares],
            "ingest_chunks_a_second_under_searches": round(self.searched_chunks / self.searched_seconds, 1),
            "searches": [len(self.idle), len(self.busy)],
            "search_p50_ms": [round(1000 * statistics.median(kind), 1) for kind in (self.idle, self.busy)],
            "search_p95_ms": [p95_ms(kind) for kind in (self.idle, self.busy)],
            "search_slowdown": round(p95_ms(self.busy) / p95_ms(self.idle), 2),
        }


class Rounds:
    """One server, measured round after round."""

    def __init__(self, server: RunningServer, documents: int, seconds: float) -> None:
        self._server = server
        self._hub = Hub(server.url, server.email, server.password)
        self._documents = documents
        self._seconds = seconds
        self._words = _WORDS.read_text().split()
        self._sent = 0
        self._embedder = LocalEmbedder(default_model_directory())
        self._embedder.load()
        self._searched = self._hub.base("searched")
        self._ingest(self._searched, 2)
        self.figures = Figures()

    def run(self) -> None:
        """One round."""
        figures = self.figures
        with self._searches(figures.idle):
            time.sleep(self._seconds)
        target = self._hub.base(f"quiet {self._sent}")
        quiet = self._ingest(target, self._documents)
        texts = list(self._hub.texts(target))
        bare = self._bare(texts)
        figures.chunks += len(texts)
        figures.quiet_seconds += quiet
        figures.bare_seconds += bare
        figures.shares.append(bare / quiet)
        target = self._hub.base(f"searched {self._sent}")
        with self._searches(figures.busy):
            figures.searched_seconds += self._ingest(target, self._documents)
        figures.searched_chunks += len(list(self._hub.texts(target)))

    def close(self) -> None:
        """Let the encoder go."""
        self._embedder.close()

    def _searches(self, seconds: list[float]) -> Searches:
        return Searches(Hub(self._server.url, self._server.email, self._server.password), self._searched, seconds)

    def _ingest(self, base: str, documents: int) -> float:
        """Seconds from the first upload until all is committed."""
        numbers = range(self._sent, self._sent + documents)
        self._sent += documents
        files = [(f"file-{number}.md", document(number, self._words)) for number in numbers]
        started = time.monotonic()
        _wait(self._hub, [self._hub.upload(base, files[start : start + PER_REQUEST]) for start in range(0, documents, PER_REQUEST)])
        return time.monotonic() - started

    def _bare(self, texts: list[str]) -> float:
        """Seconds of the encoder alone on two cores, at the priority that ingestion has: other work takes as much from both."""
        started = time.monotonic()
        self._embedder.embed(texts, background=True)
        return time.monotonic() - started


def _wait(hub: Hub, jobs: list[str]) -> None:
    for job in jobs:
        while not hub.ended(job):
            time.sleep(0.1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description="Ingestion against the bare encoder.")
    parser.add_argument("--documents", type=int, default=50, help="of one folder; two folders come in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the idle server is searched in a round")
    options = parser.parse_args()
    with temporary_server() as server:
        rounds = Rounds(server, options.documents, options.seconds)
        for _ in range(options.rounds):
            rounds.run()
        rounds.close()
    load = [round(value, 1) for value in os.getloadavg()]
    sys.stdout.write(json.dumps({"documents": options.documents, **rounds.figures.told(), "load": load}) + "\n")


if __name__ == "__main__":
    main()
