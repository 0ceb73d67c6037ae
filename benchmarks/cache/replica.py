"""AgentHub's servers of this benchmark: replicas over one PostgreSQL, one volume and one memcached."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import BenchmarkFailure
from benchmarks.peers.http_load import Client
from benchmarks.peers.hub import AgentHub
from benchmarks.peers.processes import ROOT
from benchmarks.peers.workload import Workload
from tests.servers.memcached import MemcachedServer, MissingCacheServer
from tests.servers.postgresql import MissingServer, PostgresqlServer

EMAIL = "benchmark@agenthub.invalid"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What all replicas share."""

    scratch: Path
    postgresql: PostgresqlServer
    memcached: MemcachedServer
    password: str


@contextmanager
def deployment(scratch: Path) -> Iterator[Deployment]:
    """A PostgreSQL and a memcached of this run's own, until the block ends.

    Raises: BenchmarkFailure when one is not installed, naming the line that installs it.
    """
    with ExitStack() as stack:
        try:
            postgresql, memcached = PostgresqlServer(), MemcachedServer(memory_megabytes=256)
        except (MissingServer, MissingCacheServer) as error:
            raise BenchmarkFailure(str(error)) from error
        for server in (postgresql, memcached):
            stack.callback(server.destroy)
            server.start()
        yield Deployment(scratch, postgresql, memcached, secrets.token_urlsafe(18))


class Replica(AgentHub):
    """One server of the deployment. The first fills a knowledge base whose vectors come from the client; the others join it."""

    def __init__(self, deployed: Deployment, name: str, *, application: str = "wsgi:app", **environment: str) -> None:
        super().__init__(_folder(deployed.scratch, name), ingest_clients=2)
        self.name = name
        self._application = application
        self.volume = deployed.scratch / "knowledge"
        self._password = deployed.password
        self._more = {
            "DATABASE_URL": deployed.postgresql.url(),
            "VECTOR_STORE_BASE_PATH": str(self.volume),
            "MEMCACHED_SERVERS": deployed.memcached.address,
            "AGENTHUB_OWNER_EMAIL": EMAIL,
            **environment,
        }

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """As AgentHub's, with what this benchmark varies."""
        command, environment = super().command()
        return [*command[:-1], self._application], {**environment, **self._more}

    @property
    def base(self) -> str:
        """The path of the knowledge base."""
        return self._base

    @property
    def client(self) -> Client:
        """A signed-in client on a connection of its own."""
        return Client(self.port, self.token)

    def join(self, other: Replica) -> None:
        """Start, sign in, and ask the knowledge base that another one filled."""
        self.start()
        self.await_up("/api/health/live")
        self.token = Client(self.port).post("/api/auth/login", {"email": EMAIL, "password": self._password})["session_token"]
        self._base = other.base

    def open(self, workload: Workload) -> None:
        """Start empty and take all items in.

        Raises: BenchmarkFailure when the schema can't be made.
        """
        command, environment = [sys.executable, "-m", "agenthub.cli", "migrate"], self.command()[1]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise BenchmarkFailure(f"no schema: {ended.stderr[-1500:]}")
        self.start()
        self.ingest(workload)


def search_body(vector: Any, text: str | None) -> dict[str, Any]:
    """A search by meaning, or with a text by meaning and keyword."""
    encoded = base64.b64encode(vector.tobytes()).decode()
    by_both = {"query": text} if text is not None else {"mode": "semantic"}
    return {"vector": encoded, "top_k": 10, **by_both}


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir()
    return folder
