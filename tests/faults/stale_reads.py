"""T16: two replicas over one PostgreSQL and one memcached; a writer stamps, readers probe both, and the cache is not left alone.

    python -m tests.faults.stale_reads SECONDS DATABASE_URL FOLDER

A read is as stale as the time from the acknowledgement of the oldest stamp it lacks to its own beginning. The writer must find each
stamp at once on the replica that took it, and no reader may go back.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.faults.figures import Figures
from tests.servers.agenthub_server import AgentHubServer, Remote
from tests.servers.memcached import MemcachedServer

SEED: Final = 16
EMAIL, PASSWORD = "owner@example.com", "correct horse battery staple"
READERS: Final = 2
KEPT: Final = 60
"""So many stamps stay in the knowledge base; older ones are deleted, which readers must see too."""


class Stamps:
    """Which stamps were acknowledged, and when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: list[float] = []

    def acknowledge(self) -> None:
        with self._lock:
            self._at.append(time.monotonic())

    def staleness(self, newest: int, began: float) -> float:
        """Seconds by which a read is late that began then and found this stamp as the newest."""
        with self._lock:
            missed = self._at[newest + 1] if newest + 1 < len(self._at) else began
        return max(0.0, began - missed)


class Run:
    """One run over two replicas."""

    def __init__(self, urls: tuple[str, str], cache: MemcachedServer, figures: Figures) -> None:
        self.cache = cache
        self.figures = figures
        self.over = threading.Event()
        self.stamps = Stamps()
        self.stale: list[float] = []
        self.clients = [Remote(url).login(EMAIL, PASSWORD) for url in urls]
        self.urls = urls
        created = self.clients[0].post("/api/knowledge-bases", {"name": "stamps", "embedding_model": None, "dimension": 2}, 201)
        self.base = f"/api/knowledge-bases/{created['id']}"

    def write(self) -> None:
        """Stamp on one replica, then on the other, and look there at once."""
        number = 0
        while not self.over.is_set():
            client = self.clients[number % 2]
            item = {"id": f"stamp-{number:06d}", "text": f"zebra {number}", "vector": [1.0, 0.5]}
            client.post(f"{self.base}/chunks", {"items": [item]})
            self.stamps.acknowledge()
            self.figures.expect(self.newest(client)[0] >= number, f"stamp {number} is not there for who wrote it")
            if number >= KEPT:
                client.post(f"{self.base}/chunks/delete", {"ids": [f"stamp-{number - KEPT:06d}"]})
            number += 1
            self.figures.operations += 1
            time.sleep(0.05)

    def read(self, seed: int) -> None:
        """Probe the replicas in turn."""
        clients = [Remote(url, client.token) for url, client in zip(self.urls, self.clients, strict=True)]
        last, last_generation, turn = -1, 0, seed
        while not self.over.is_set():
            turn += 1
            began = time.monotonic()
            newest, generation = self.newest(clients[turn % 2])
            self.stale.append(self.stamps.staleness(newest, began))
            self.figures.expect(newest >= last, f"stamp {last} was seen before {newest}")
            self.figures.expect(generation >= last_generation, f"generation {last_generation} was seen before {generation}")
            last, last_generation = newest, generation
            self.figures.operations += 1
            time.sleep(0.01)

    def newest(self, client: Remote) -> tuple[int, int]:
        """The newest stamp found, and the generation that was searched."""
        body: dict[str, Any] = {"query": "zebra", "mode": "keyword", "top_k": 100, "include": []}
        answer = client.post(f"{self.base}/search", body)
        return max((int(hit["chunk_id"].partition("-")[2]) for hit in answer["hits"]), default=-1), answer["generation"]

    def disturb(self) -> None:
        """Freeze the cache for a while, let it lose everything, and flush the results, over and over."""
        while not self.over.wait(4):
            self.cache.pause()
            self.over.wait(2)
            self.cache.resume()
            if self.over.wait(3):
                return
            self.cache.kill()
            self.cache.start()
            self.clients[0].client.post("/api/embeddings/cache/flush", json={"kind": "result"})
            self.figures.injections += 2


def main(seconds: float, database_url: str, folder: Path) -> int:
    """Exit status: 0 when no stamp was missed by its writer, nobody went back and no read was 5 seconds late."""
    figures = Figures("T16 stale reads", SEED)
    with ExitStack() as stack:
        cache = MemcachedServer()
        stack.callback(cache.destroy)
        cache.start()
        environment = {
            "DATABASE_URL": database_url,
            "MEMCACHED_SERVERS": cache.address,
            "AGENTHUB_OWNER_EMAIL": EMAIL,
            "AGENTHUB_OWNER_PASSWORD": PASSWORD,
            "AGENTHUB_RATE_LIMITS": "off",
            "AGENTHUB_LOG_LEVEL": "warning",
            "WEB_CONCURRENCY": "2",
        }
        one, other = (stack.enter_context(AgentHubServer(folder, **environment)) for _ in range(2))
        run = Run((one.url, other.url), cache, figures)
        work = [run.write, run.disturb, *(lambda seed=seed: run.read(seed) for seed in range(READERS))]
        threads = [threading.Thread(target=_guarded, args=(step, run)) for step in work]
        for thread in threads:
            thread.start()
        run.over.wait(seconds)
        run.over.set()
        for thread in threads:
            thread.join(120)
    late = sorted(run.stale) or [0.0]
    figures.counts["reads"] = len(run.stale)
    for name, value in (("p50", median(late)), ("p99", late[int(len(late) * 0.99)]), ("max", late[-1])):
        figures.counts[f"staleness_{name}_ms"] = round(value * 1000)
    figures.expect(late[-1] <= 5, f"a read was {late[-1]:.1f} s late")
    return figures.finish()


def _guarded(step: Any, run: Run) -> None:
    """A thread that fails ends the run with a violation instead of leaving it unwatched."""
    try:
        step()
    except Exception as error:  # noqa: BLE001
        run.figures.expect(False, f"{type(error).__name__}: {error}"[:400])
        run.over.set()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
