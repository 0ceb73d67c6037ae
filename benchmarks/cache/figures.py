"""What is measured: each function returns figures by name, of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import orjson

from agenthub.cache.configuration import CacheSettings, MemcachedSettings
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.cache.policy import CachePolicy
from agenthub.rag.embedding.configuration import EmbeddingSettings
from agenthub.rag.embedding.open import open_embedders
from benchmarks.cache.relay import CountingRelay
from benchmarks.cache.replica import Replica, search_body
from benchmarks.peers.contract import BenchmarkFailure, Load
from benchmarks.peers.http_load import Client, run_wrk, write_bodies
from benchmarks.peers.workload import Workload
from tests.servers.memcached import MemcachedServer
from tests.servers.postgresql import PostgresqlServer, execute

Figures = dict[str, float]
TEXTS: Final = 100
WARM_UP_SECONDS: Final = 4.0
"""The first searches open the segments, which takes a moment."""
CONNECTIONS: Final = 8
MISSES_A_SECOND: Final = 2_500
"""More bodies than a server answers, so that none is asked twice."""


# --- embeddings ---


def embeddings(replica: Replica, workload: Workload, rounds: int) -> Figures:
    """Milliseconds to embed 100 texts of 500 characters through the service: known ones, and new ones that the model computes."""
    client = replica.client
    known = _embed_body(workload, 0)
    client.send("POST", "/api/embeddings", known)
    seconds: dict[str, list[float]] = {"known": [], "new": []}
    for number in range(rounds):
        seconds["new"].append(_timed(lambda number=number: client.send("POST", "/api/embeddings", _embed_body(workload, 1 + number))))  # type: ignore[misc]
        seconds["known"] += [_timed(lambda: client.send("POST", "/api/embeddings", known)) for _ in range(10)]
    return {f"embed_{name}_ms": 1000 * median(several) for name, several in seconds.items()}


def _embed_body(workload: Workload, batch: int) -> bytes:
    texts = [workload.item(TEXTS * batch + number).text for number in range(TEXTS)]
    return orjson.dumps({"texts": texts, "encoding": "base64"})


def round_trips(workload: Workload) -> Figures:
    """Round trips to each of two servers for 100 known texts."""
    servers = [MemcachedServer().start() for _ in range(2)]
    relays = [CountingRelay(server.port) for server in servers]
    memcached = MemcachedSettings(tuple(("127.0.0.1", relay.port) for relay in relays))
    cache = open_cache(CacheSettings(memcached), lambda: b"a secret for this measurement")
    try:
        embedder = open_embedders(EmbeddingSettings(), cache=CachePolicy(cache, CacheKeys()).embeddings()).default
        texts = [workload.item(number).text[:80] for number in range(TEXTS)]
        embedder.embed(texts)
        for relay in relays:
            relay.taken()
        embedder.embed(texts)
        return {"round_trips": float(max(relay.taken() for relay in relays))}
    finally:
        cache.close()
        for relay, server in zip(relays, servers, strict=True):
            relay.close()
            server.destroy()


# --- searches ---


def searches(on: Replica, off: Replica, workload: Workload, rounds: int, seconds: float) -> Figures:
    """Requests a second of a repeated identical search and of searches never asked before, with the result cache and without."""
    seen: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first one warms up and isn't counted
        for kind in ("semantic", "hybrid"):
            for shape, bodies in _bodies(on.scratch, workload, kind, seconds, number).items():
                for name, replica in (("on", on), ("off", off))[:: 1 if number % 2 else -1]:
                    load = Load("single", CONNECTIONS, seconds if number else WARM_UP_SECONDS)
                    rate = run_wrk(replica.port, replica.token, f"{replica.base}/search", bodies, load)
                    if number:
                        seen.setdefault(f"{kind}_{shape}_{name}", []).append(rate.queries_per_second)
    return {name: median(several) for name, several in seen.items()}


def _bodies(scratch: Path, workload: Workload, kind: str, seconds: float, number: int) -> dict[str, Path]:
    random = np.random.default_rng([number, len(kind)])
    count = int(MISSES_A_SECOND * (seconds if number else WARM_UP_SECONDS))
    queries = workload.queries[random.integers(0, len(workload.queries), count)]
    fresh = (queries + random.normal(0, 0.01, queries.shape)).astype("<f4")
    words = [workload.item(int(at)).text[:30] if kind == "hybrid" else None for at in random.integers(0, len(workload), count)]
    repeated = [search_body(workload.queries[0], workload.item(7).text[:30] if kind == "hybrid" else None)]
    misses = [search_body(vector, text) for vector, text in zip(fresh, words, strict=True)]
    return {
        "repeated": write_bodies(scratch / f"{kind}-repeated.jsonl", repeated),
        "miss": write_bodies(scratch / f"{kind}-miss.jsonl", misses),
    }


# --- who calls ---


def noops(replica: Replica, rounds: int, seconds: float) -> Figures:
    """Requests a second of the no-op for everyone and of the same one for who is signed in."""
    seen: dict[str, list[float]] = {"public": [], "signed-in": []}
    bodies = write_bodies(replica.scratch / "noop.jsonl", [{}])
    for number in range(rounds + 1):
        for name, rates in seen.items():
            load = Load("single", CONNECTIONS, seconds if number else 1)
            rate = run_wrk(replica.port, replica.token, f"/api/noop/{name}", bodies, load, method="GET")
            if number:
                rates.append(rate.queries_per_second)
    return {f"noop_{name}": median(rates) for name, rates in seen.items()}


def statements(postgresql: PostgresqlServer, replica: Replica, workload: Workload) -> Figures:
    """Statements that PostgreSQL runs for a warm authenticated search, whatever kind they are: the median, for there are other clients."""
    client, seen = replica.client, []
    body = orjson.dumps(search_body(workload.queries[0], None))
    path = f"{replica.base}/search"
    client.send("POST", path, body)
    with postgresql.logging_statements() as told:
        for _ in range(3):  # connections of the pool take the setting at their next statement
            client.send("POST", path, body)
        for _ in range(100):
            before = len(told())
            client.send("POST", path, body)
            seen.append(len(told()) - before)
    return {"statements": float(median(seen))}


# --- the first search after a start ---


def first_searches(replicas: Sequence[tuple[str, Replica]], filled: Replica, workload: Workload, rest_seconds: float) -> Figures:
    """Milliseconds of the first search of a fresh process that had time to warm itself, or may not."""
    body = orjson.dumps(search_body(workload.queries[1], workload.item(11).text[:30]))
    figures: Figures = {}
    for name, replica in replicas:
        replica.join(filled)
        time.sleep(rest_seconds)
        client: Client = replica.client
        figures[f"first_{name}_ms"] = 1000 * _timed(lambda client=client, base=replica.base: client.send("POST", f"{base}/search", body))  # type: ignore[misc]
        replica.stop()
    return figures


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def await_record(postgresql: PostgresqlServer, limit_seconds: float = 60.0) -> None:
    """Return when some process recorded what is busy.

    Raises: BenchmarkFailure when none does.
    """
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        if execute(postgresql.url(), "SELECT 1 FROM kb_heat LIMIT 1"):
            return
        time.sleep(0.5)
    raise BenchmarkFailure("no process recorded what was searched")


__all__ = ["Figures", "await_record", "embeddings", "first_searches", "noops", "round_trips", "searches", "statements"]
