"""What systems behind HTTP have in common: one process, bodies prepared for wrk, recall over their own answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.contract import BATCH, BenchmarkFailure, Ingested, Kind, Load, Rate
from benchmarks.peers.http_load import Client, run_wrk, send_all, write_bodies
from benchmarks.peers.processes import Process, await_idle, family, free_port
from benchmarks.peers.workload import Workload

START_SECONDS: Final = 90.0
SETTLE_SECONDS: Final = 3600.0


class HttpPeer:
    """A server on a port of this machine. Subclasses say how it is started, filled and asked."""

    name = ""
    loads: frozenset[Kind] = frozenset({"single", "filtered", "batch"})

    def __init__(self, scratch: Path, ingest_clients: int) -> None:
        self.scratch = scratch
        self.port = free_port()
        self.folder: Path | None = None
        self.ingest_clients = ingest_clients
        self.token: str | None = None
        self._process: Process | None = None
        self._bodies: dict[Kind, Path] = {}

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """How it is started, and with which environment."""
        raise NotImplementedError

    def search_path(self) -> str:
        """Where it is asked."""
        raise NotImplementedError

    def body(self, kind: Kind, vectors: Sequence[Any]) -> dict[str, Any]:
        """The body of a search of that kind; several vectors only for a batch."""
        raise NotImplementedError

    def found(self, answer: Any) -> list[list[int]]:
        """The numbers of the items in an answer, for each query of it."""
        raise NotImplementedError

    # --- the contract ---

    def start(self) -> None:
        """Start the server and return at once: `answer_once` says when it is there."""
        command, environment = self.command()
        self._process = Process(command, self.scratch / f"{self.name}.log", environment)

    def stop(self) -> None:
        """Stop it cleanly."""
        if self._process is not None:
            self._process.stop()

    def process_ids(self) -> list[int]:
        """The server's processes."""
        return family(self.process.id)

    def measure(self, load: Load) -> Rate:
        """The rate wrk gets."""
        return run_wrk(self.port, self.token, self.search_path(), self._bodies[load.kind], load)

    def answer_once(self) -> None:
        """One query answered with ten hits."""
        body = self._bodies["single"].read_bytes().partition(b"\n")[0]
        answer = json.loads(Client(self.port, self.token).send("POST", self.search_path(), body))
        if len(self.found(answer)[0]) < 10:
            raise BenchmarkFailure(f"{self.name} answered fewer than ten hits")

    # --- for subclasses ---

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise BenchmarkFailure(f"{self.name} was not started")
        return self._process

    def await_up(self, path: str) -> None:
        """Return when the server answers a GET there.

        Raises: BenchmarkFailure when it doesn't within 90 s.
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self.process.check()
            try:
                Client(self.port).send("GET", path, b"")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise BenchmarkFailure(f"{self.name} did not come up")

    def fill(self, path: str, bodies: Iterable[bytes], workload: Workload) -> Ingested:
        """Send all bodies, see that the last item is found, and wait until the server rests."""
        self.prepare(workload)
        seconds = send_all(self.port, self.token, path, bodies, self.ingest_clients)
        acknowledged = time.perf_counter()
        answer = Client(self.port, self.token).post(self.search_path(), self.body("single", [workload.vectors[-1]]))
        if self.found(answer)[0][0] != len(workload) - 1:
            raise BenchmarkFailure(f"{self.name} acknowledged an item that it does not find")
        searchable = seconds + time.perf_counter() - acknowledged
        self.settle()
        quiet_seconds = 3.0
        await_idle(self.process_ids, SETTLE_SECONDS, quiet_seconds)
        return Ingested(searchable, max(searchable, seconds + time.perf_counter() - acknowledged - quiet_seconds))

    def settle(self) -> None:
        """Do what an operator lets a scheduler do for it after many writes; nothing for a server that needs nobody."""

    def prepare(self, workload: Workload) -> None:
        """Write the bodies that the loads will send."""
        queries = workload.queries
        rolled = [[queries[(start + i) % len(queries)] for i in range(BATCH)] for start in range(0, len(queries), 10)]
        for kind, bodies in (
            ("single", [self.body("single", [query]) for query in queries]),
            ("filtered", [self.body("filtered", [query]) for query in queries]),
            ("batch", [self.body("batch", many) for many in rolled] if "batch" in self.loads else []),
        ):
            self._bodies[kind] = write_bodies(self.scratch / f"{self.name}-{kind}.jsonl", bodies)  # type: ignore[index]

    def answers(self, kind: Kind) -> list[list[int]]:
        """What it finds for every query, asked one by one over HTTP."""
        client = Client(self.port, self.token)
        lines = self._bodies[kind].read_bytes().splitlines()
        return [self.found(json.loads(client.send("POST", self.search_path(), line)))[0] for line in lines]
