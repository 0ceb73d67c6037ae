"""How fast documents come in, against the bare encoder: `python -m benchmarks.ingest [--documents N] [--seconds S]`.

A fresh server with the embedded defaults takes a folder of Markdown files by jobs: read in child processes, cut, embedded and
committed. The same chunks are then embedded by the encoder alone, on both cores, one text a call. While the folder comes in,
another knowledge base is searched; its 95th percentile is compared with that of the idle server. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from agenthub.rag.embedding.configuration import default_model_directory
from agenthub.rag.embedding.local import LocalEmbedder
from agenthub.rag.segment import Chunk
from benchmarks.retrieval.client import BenchmarkFailure
from benchmarks.retrieval.server import temporary_server

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

    def __init__(self, hub: Hub, base: str) -> None:
        self._hub, self._base = hub, base
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self.seconds

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            started = time.monotonic()
            self._hub.call("POST", f"{self._base}/search", json={"query": f"who taught question {number} {started}", "top_k": 10})
            taken = time.monotonic() - started
            self.seconds.append(taken)
            if self._over.wait(max(0.0, 1 / SEARCHES_PER_SECOND - taken)):
                return


def p95_ms(seconds: list[float]) -> float:
    """The 95th percentile in milliseconds."""
    return round(1000 * statistics.quantiles(seconds, n=20)[18], 1)


def measure(documents: int, seconds: float) -> dict[str, Any]:
    """The figures of one run."""
    words = _WORDS.read_text().split()
    with temporary_server() as server:
        hub = Hub(server.url, server.email, server.password)
        searched, target = hub.base("searched"), hub.base("target")
        first = hub.upload(searched, [("searched.md", document(-1, words)), ("more.md", document(-2, words))])
        _wait(hub, [first])
        with Searches(Hub(server.url, server.email, server.password), searched) as idle:
            time.sleep(seconds)
        files = [(f"file-{number}.md", document(number, words)) for number in range(documents)]
        with Searches(Hub(server.url, server.email, server.password), searched) as busy:
            started = time.monotonic()
            jobs = [hub.upload(target, files[start : start + PER_REQUEST]) for start in range(0, documents, PER_REQUEST)]
            acknowledged = time.monotonic() - started
            _wait(hub, jobs)
            taken = time.monotonic() - started
        texts = list(hub.texts(target))
    bare = bare_rate(texts)
    rate = len(texts) / taken
    return {
        "documents": documents,
        "chunks": len(texts),
        "acknowledged_seconds_a_request": round(acknowledged / len(jobs), 3),
        "ingest_chunks_a_second": round(rate, 1),
        "bare_chunks_a_second": round(bare, 1),
        "share_of_bare": round(rate / bare, 3),
        "search_p95_ms_idle": p95_ms(idle),
        "search_p95_ms_busy": p95_ms(busy),
        "search_slowdown": round(p95_ms(busy) / p95_ms(idle), 2),
    }


def _wait(hub: Hub, jobs: list[str]) -> None:
    for job in jobs:
        while not hub.ended(job):
            time.sleep(0.1)


def bare_rate(texts: list[str]) -> float:
    """Texts a second of the encoder alone on two cores, one text a call."""
    embedder = LocalEmbedder(default_model_directory())
    embedder.embed(texts[:20])
    started = time.monotonic()
    embedder.embed(texts)
    taken = time.monotonic() - started
    embedder.close()
    return len(texts) / taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description="Ingestion against the bare encoder.")
    parser.add_argument("--documents", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long the idle server is searched")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(measure(options.documents, options.seconds)) + "\n")


if __name__ == "__main__":
    main()
