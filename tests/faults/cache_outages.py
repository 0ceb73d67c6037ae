"""T14 over HTTP: AgentHub under load while its cache server is killed, frozen, slowed, made to flap, filled and poisoned.

    python -m tests.faults.cache_outages SECONDS memcached|redis FOLDER [FAULT,...]

Every answer is compared with the one that was right before any fault. What a fault adds to the 99th percentile is that of its
requests less that of the healthy minutes around it.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import redis
from pymemcache.client.base import Client

from tests.faults.figures import Figures
from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.servers.memcached import Daemon, MemcachedServer
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer

SEED: Final = 14
EMAIL, PASSWORD = "owner@example.com", "correct horse battery staple"
CLIENTS: Final = 4
QUESTIONS: Final = [f"zebra number {number}" for number in range(40)]
Step = Callable[["Scene", threading.Event], None]


@dataclass
class Scene:
    """The server, its cache, and the line between them."""

    server: AgentHubServer
    cache: Daemon
    proxy: Proxy
    base: str = ""
    token: str = ""
    right: dict[str, Any] = field(default_factory=dict)


def _kill(scene: Scene, over: threading.Event) -> None:
    scene.cache.kill()
    over.wait()
    scene.cache.start()


def _freeze(scene: Scene, over: threading.Event) -> None:
    scene.cache.pause()
    over.wait()
    scene.cache.resume()


def _slow(scene: Scene, over: threading.Event) -> None:
    scene.proxy.latency_seconds = 2.0
    over.wait()
    scene.proxy.latency_seconds = 0.0
    scene.proxy.reset_all()


def _flap(scene: Scene, over: threading.Event) -> None:
    """Once a second: half of it there, half of it gone."""
    while not over.is_set():
        scene.cache.kill()
        over.wait(0.5)
        scene.cache.start()
        over.wait(0.5)


def _evict(scene: Scene, over: threading.Event) -> None:
    """Others fill the server, which has 4 MB, all the time."""
    number = 0
    while not over.wait(0.001):
        number += 1
        _put(scene.cache, {f"neighbour-{number % 4000}": os.urandom(8000)})


def _poison(scene: Scene, over: threading.Event) -> None:
    """Whatever is there is overwritten by garbage and by one another's values."""
    dice = random.Random(SEED)
    while not over.wait(0.05):
        kept = _entries(scene.cache)
        names = [name for name in kept if not name.endswith("/edition")]
        values = list(kept.values())
        _put(scene.cache, {name: dice.choice([b"", b"garbage", os.urandom(1536), *values[:20]]) for name in names})


FAULTS: Final[dict[str, Step]] = {
    "kill": _kill,
    "freeze": _freeze,
    "slow": _slow,
    "flap": _flap,
    "evict": _evict,
    "poison": _poison,
}


def _put(cache: Daemon, items: dict[str, bytes]) -> None:
    if isinstance(cache, RedisServer):
        redis.Redis.from_url(cache.url()).mset(dict(items)) if items else None
        return
    line = Client(("127.0.0.1", cache.port))
    line.set_many(items, noreply=False)
    line.close()


def _entries(cache: Daemon) -> dict[str, bytes]:
    """What the server holds, by key."""
    if isinstance(cache, RedisServer):
        line = redis.Redis.from_url(cache.url())
        keys = [key.decode() for key in line.scan_iter(count=1000)]
        return {key: value for key in keys if (value := _value(line, key)) is not None}
    raw = Client(("127.0.0.1", cache.port))
    listed = raw.raw_command("lru_crawler metadump all", b"END\r\n").decode()
    keys = [httpx.QueryParams(line.split()[0])["key"] for line in listed.splitlines() if line.startswith("key=")]
    found: dict[str, bytes] = raw.get_many(keys[:2000])
    raw.close()
    return found


def _value(line: redis.Redis, key: str) -> bytes | None:
    found = line.get(key)
    return found if isinstance(found, bytes) else None


class Load:
    """Clients that ask known questions and compare the answers."""

    def __init__(self, scene: Scene, figures: Figures) -> None:
        self._scene = scene
        self._figures = figures
        self._over = threading.Event()
        self.seconds: list[float] = []
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(CLIENTS)]

    def run(self, seconds: float) -> list[float]:
        """How long each request took."""
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        return self.seconds

    def _work(self, seed: int) -> None:
        dice = random.Random(seed)
        client = Remote(self._scene.server.url, self._scene.token).client
        while not self._over.is_set():
            question = dice.choice(QUESTIONS)
            started = time.perf_counter()
            answer = ask(client, self._scene.base, question, dice.random() < 0.3)
            self.seconds.append(time.perf_counter() - started)
            self._figures.operations += 1
            self._figures.expect(answer == self._scene.right[question], f"{question}: {str(answer)[:200]}")
            time.sleep(0.005)


def ask(client: httpx.Client, base: str, question: str, fresh: bool) -> Any:
    """The ids and scores of the hits; `fresh` asks so that no kept result fits, only the kept vector of the question."""
    more = {"min_score": -random.random() - 1e-9} if fresh else {}
    response = client.post(f"{base}/search", json={"query": question, "top_k": 5, **{k: max(-1.0, v) for k, v in more.items()}})
    if response.status_code != 200:
        return f"{response.status_code} {response.text}"
    return [(hit["chunk_id"], round(hit["score"], 5)) for hit in response.json()["hits"]]


def prepare(scene: Scene) -> None:
    """Documents to be found, and the right answers."""
    owner = Remote(scene.server.url).login(EMAIL, PASSWORD)
    scene.token = owner.token or ""
    scene.base = f"/api/knowledge-bases/{owner.post('/api/knowledge-bases', {'name': 'faults'}, 201)['id']}"
    items = [{"id": f"c{number}", "text": f"A note about zebra number {number % 50} and stripe {number}."} for number in range(300)]
    owner.post(f"{scene.base}/chunks", {"items": items})
    scene.right = {question: ask(owner.client, scene.base, question, fresh=True) for question in QUESTIONS}


def percentile_99_ms(seconds: Sequence[float]) -> float:
    """Milliseconds that one request in a hundred takes longer than."""
    return sorted(seconds)[int(len(seconds) * 0.99)] * 1000 if seconds else 0.0


def suffer(scene: Scene, name: str, seconds: float, figures: Figures) -> None:
    """One fault under load, between healthy times."""
    healthy = Load(scene, figures).run(seconds / 2)
    over = threading.Event()
    fault = threading.Thread(target=FAULTS[name], args=(scene, over))
    fault.start()
    figures.injections += 1
    during = Load(scene, figures).run(seconds)
    over.set()
    fault.join(30)
    time.sleep(2)  # found well again
    healthy += Load(scene, figures).run(seconds / 2)
    figures.counts[f"added_p99_ms_{name}"] = round(percentile_99_ms(during) - percentile_99_ms(healthy))
    figures.counts[f"healthy_p99_ms_{name}"] = round(percentile_99_ms(healthy))


def main(seconds: float, kind: str, folder: Path, names: Sequence[str]) -> int:
    """Exit status: 0 when no answer was wrong."""
    figures = Figures(f"T14 cache outages, {kind}", SEED)
    with ExitStack() as stack:
        cache: Daemon = RedisServer() if kind == "redis" else MemcachedServer(memory_megabytes=4)
        stack.callback(cache.destroy)
        cache.start()
        proxy = Proxy(("127.0.0.1", cache.port))
        stack.callback(proxy.close)
        if isinstance(cache, RedisServer):
            redis.Redis.from_url(cache.url()).config_set("maxmemory", "8mb")
            redis.Redis.from_url(cache.url()).config_set("maxmemory-policy", "allkeys-lru")
        place = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"} if kind == "redis" else {"MEMCACHED_SERVERS": f"127.0.0.1:{proxy.port}"}
        owner = {"AGENTHUB_OWNER_EMAIL": EMAIL, "AGENTHUB_OWNER_PASSWORD": PASSWORD}
        server = AgentHubServer(folder, **place, **owner, AGENTHUB_RATE_LIMITS="off", WEB_CONCURRENCY="1", AGENTHUB_LOG_LEVEL="warning")
        scene = Scene(stack.enter_context(server), cache, proxy)
        prepare(scene)
        Load(scene, figures).run(2)
        for name in names:
            suffer(scene, name, seconds, figures)
    return figures.finish()


if __name__ == "__main__":
    chosen = sys.argv[4].split(",") if len(sys.argv) > 4 else list(FAULTS)
    sys.exit(main(float(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), chosen))
