"""How many commits a minute BigQuery takes: `python -m benchmarks.bigquery [--seconds S] [--only rows|uploads]`.

By default on the emulator, which is not the service; `TEST_BIGQUERY_PROJECT=PROJECT`, with credentials, measures the service and bills
there. First rows: one writer that changes one row again and again, threads that add rows of their own (group commit), and racing
processes' worth of storages that change one row. Then a server with all its tables: clients that upload documents into one knowledge
base, each waiting until its document can be searched. Every figure is checked: what was acknowledged is there once. Prints one JSON line
a figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from agenthub.core.errors import RateLimited, VersionConflict
from agenthub.storage.bigquery.backend import BigQueryStorage
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import Insert, Update
from benchmarks.peers.contract import BenchmarkFailure
from tests.contracts.storage.tables import EVERYTHING, THINGS, A, thing
from tests.servers.agenthub_server import ROOT, AgentHubServer, Remote
from tests.servers.bigquery import BigQueryPlace, Emulator, drop_dataset

OWNER: Final = {"AGENTHUB_OWNER_EMAIL": "owner@example.com", "AGENTHUB_OWNER_PASSWORD": "correct horse battery staple"}
CLIENTS: Final = (1, 8, 16)
THREADS: Final = (8, 32)
RACERS: Final = 4


def say(**figures: object) -> None:
    """Print one figure."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


@contextmanager
def place() -> Iterator[BigQueryPlace]:
    """The service where a project is named, else an emulator for the block."""
    project = os.environ.get("TEST_BIGQUERY_PROJECT")
    if project:
        yield BigQueryPlace(project, None, os.environ.get("TEST_BIGQUERY_LOCATION", "US"))
        return
    emulator = Emulator().start()
    try:
        yield emulator.place()
    finally:
        emulator.destroy()


@contextmanager
def dataset(found: BigQueryPlace) -> Iterator[BigQuerySettings]:
    """A dataset for the block."""
    settings = found.dataset()
    yield settings
    drop_dataset(settings)


def turns(storage: BigQueryStorage) -> int:
    """How many transactions were written so far."""
    return int(storage.rows("SELECT t.number FROM agenthub_turns AS t WHERE t.name = 'commit'", [])[0]["number"])


def together(workers: int, seconds: float, work: Callable[[int, float], int]) -> tuple[int, float]:
    """What all workers did together until so many seconds had passed, and how long that took. `work` gets a number and the end."""
    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        done = sum(pool.map(lambda number: work(number, started + seconds), range(workers)))
    return done, time.monotonic() - started


def changes(storage: BigQueryStorage, end: float) -> int:
    """Add one to a row by compare-and-set until the end: how often that was acknowledged."""
    done = 0
    while time.monotonic() < end:
        row = storage.get(THINGS, A, "k")
        if row is None:
            raise BenchmarkFailure("the row is gone")
        try:
            storage.commit([Update(THINGS, A, "k", {"number": row["number"] + 1}, expected_version=row["version"])])
        except (VersionConflict, RateLimited):
            continue
        done += 1
    return done


def additions(storage: BigQueryStorage, name: str, end: float) -> int:
    """Add rows until the end: how many."""
    done = 0
    while time.monotonic() < end:
        storage.commit([Insert(THINGS, thing(f"{name} {done}", name=f"{name} {done}"))])
        done += 1
    return done


def measure_rows(settings: BigQuerySettings, seconds: float) -> None:
    """Commits of rows."""
    storages = [BigQueryStorage(settings) for _ in range(RACERS)]
    storage = storages[0]
    storage.own_schema.make(EVERYTHING)
    storage.commit([Insert(THINGS, thing("k", number=0))])
    done, took = together(1, seconds, lambda _, end: changes(storage, end))
    say(figure="one writer, one row", commits_a_minute=round(60 * done / took))
    raced, took = together(RACERS, seconds, lambda number, end: changes(storages[number], end))
    say(figure=f"{RACERS} racing storages, one row", commits_a_minute=round(60 * raced / took))
    row = storage.get(THINGS, A, "k")
    if row is None or row["number"] != done + raced:
        raise BenchmarkFailure(f"{done + raced} changes were acknowledged: {row}")
    for threads in THREADS:
        before, there = turns(storage), storage.count(THINGS, A)
        name = f"of {threads}"
        done, took = together(threads, seconds, lambda number, end, name=name: additions(storage, f"{name} {number}", end))  # type: ignore[misc]
        moved = turns(storage) - before
        say(figure=f"{threads} threads, rows of their own", commits_a_minute=round(60 * done / took), transactions=round(60 * moved / took))
        if storage.count(THINGS, A) != there + done:
            raise BenchmarkFailure(f"{done} rows were acknowledged, and others are there")
    for one in storages:
        one.close()


class Uploads:
    """Clients that upload small documents into one knowledge base."""

    def __init__(self, url: str, token: str | None, name: str) -> None:
        self._url, self._token = url, token
        self.path = f"/api/knowledge-bases/{Remote(url, token).post('/api/knowledge-bases', {'name': name}, 201)['id']}"
        self.refused = 0

    def run(self, client: int, end: float) -> int:
        """Upload until the end; how many were acknowledged. One that is told to come back later does so, with the same key."""
        done = 0
        with httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {self._token}"}, timeout=300, trust_env=False) as http:
            while time.monotonic() < end:
                key = f"{client}-{time.monotonic_ns()}"
                body = {"title": key, "text": f"What client {client} had to say at {key}."}
                while (
                    answer := http.post(f"{self.path}/documents?wait=0", json=body, headers={"Idempotency-Key": key})
                ).status_code != 202:
                    if answer.status_code not in (409, 429, 503) or "Retry-After" not in answer.headers:
                        raise BenchmarkFailure(f"{answer.status_code}: {answer.text[:500]}")
                    self.refused += 1
                    time.sleep(float(answer.headers["Retry-After"]))
                while (job := http.get(f"/api/jobs/{answer.json()['job']['id']}").json())["status"] in ("queued", "running"):
                    time.sleep(1)
                if job["status"] != "succeeded":
                    raise BenchmarkFailure(f"the job ended otherwise: {job}")
                done += 1
        return done


def measure_uploads(settings: BigQuerySettings, environment: dict[str, str], seconds: float) -> None:
    """Documents and transactions a minute of a server with all its tables."""
    storage = BigQueryStorage(replace(settings, timeout_seconds=120.0))
    with tempfile.TemporaryDirectory() as folder:
        more = {"AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "60", "AGENTHUB_WORKER_TIMEOUT_SECONDS": "180", "AGENTHUB_RATE_LIMITS": "off"}
        server = AgentHubServer(Path(folder), DATABASE_URL="", WEB_CONCURRENCY="1", **OWNER, **environment, **more)
        subprocess.run([sys.executable, "-m", "agenthub.cli", "migrate"], cwd=ROOT, env=server.environment, check=True, capture_output=True)
        with server:
            client = Remote(server.url).login(*OWNER.values())
            for clients in CLIENTS:
                uploads = Uploads(server.url, client.token, f"of {clients}")
                before = turns(storage)
                done, took = together(clients, seconds, uploads.run)
                moved = turns(storage) - before
                rates: dict[str, Any] = {
                    "documents_a_minute": round(60 * done / took, 1),
                    "transactions_a_minute": round(60 * moved / took, 1),
                }
                say(figure=f"{clients} clients upload into one knowledge base", **rates, told_to_come_back=uploads.refused)
                there = client.get(uploads.path)["document_count"]
                if there != done:
                    raise BenchmarkFailure(f"{done} uploads were acknowledged and {there} documents are there")
    storage.close()


def main() -> None:
    """Measure, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each figure is measured")
    parser.add_argument("--only", choices=("rows", "uploads"), help="one of the two parts")
    given = parser.parse_args()
    with place() as found:
        say(measured="the service" if found.endpoint is None else "the emulator, which is not the service")
        if given.only != "uploads":
            with dataset(found) as settings:
                measure_rows(settings, given.seconds)
        if given.only != "rows":
            with dataset(found) as settings:
                measure_uploads(settings, found.environment(settings), given.seconds)


if __name__ == "__main__":
    main()
