"""AgentHub itself: two gunicorn workers, signed in, result cache off."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.peers.contract import TOP_K, BenchmarkFailure, Ingested, Kind, Tuned
from benchmarks.peers.http_load import Client
from benchmarks.peers.http_peer import SETTLE_SECONDS, HttpPeer
from benchmarks.peers.processes import ROOT, inherited
from benchmarks.peers.workload import DIMENSION, WANTED_CATEGORY, Workload, item_number, recall

_UPKEEPS: Final = 6


class AgentHub(HttpPeer):
    """A knowledge base without a model: vectors come from the client."""

    name = "agenthub"

    def __init__(self, scratch: Path, ingest_clients: int) -> None:
        super().__init__(scratch, ingest_clients)
        self.folder = scratch / "agenthub"
        self.folder.mkdir()
        self._password = secrets.token_urlsafe(18)
        self._base = ""

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        return [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "wsgi:app"], inherited() | {
            "PORT": str(self.port),
            "AGENTHUB_HOST": "127.0.0.1",
            "WEB_CONCURRENCY": "2",
            "DATABASE_URL": f"sqlite:///{self.folder}/agenthub.sqlite3",
            "VECTOR_STORE_BASE_PATH": f"{self.folder}/knowledge",
            "AGENTHUB_OWNER_EMAIL": "benchmark@agenthub.invalid",
            "AGENTHUB_OWNER_PASSWORD": self._password,
            "AGENTHUB_RESULT_CACHE": "off",
            "AGENTHUB_RATE_LIMITS": "off",
        }

    def ingest(self, workload: Workload) -> Ingested:
        self.await_up("/api/health/live")
        login = {"email": "benchmark@agenthub.invalid", "password": self._password}
        self.token = Client(self.port).post("/api/auth/login", login)["session_token"]
        client = Client(self.port, self.token)
        asked = {"name": "benchmark", "embedding_model": None, "dimension": DIMENSION, "retained_generations": 0}  # peers keep no history
        created = client.post("/api/knowledge-bases", asked)
        self._base = f"/api/knowledge-bases/{created['id']}"
        return self.fill(f"{self._base}/chunks", _chunks(workload), workload)

    def settle(self) -> None:
        """What an operator does after a bulk load: merge what rests, and upkeep until nothing is due, without the usual day of grace."""
        while self._upkeep("merge", "--at-rest"):
            pass
        for _ in range(_UPKEEPS):
            if not self._upkeep("maintain", "--grace-seconds", "1", "--orphan-grace-seconds", "1"):
                return
            time.sleep(1.5)

    def _upkeep(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "agenthub.cli", "kb", *arguments]
        ended = subprocess.run(
            command, cwd=ROOT, env=self.command()[1], capture_output=True, text=True, timeout=SETTLE_SECONDS, check=False
        )
        if ended.returncode:
            raise BenchmarkFailure(f"upkeep failed: {ended.stderr[-1500:]}")
        return ended.stdout.strip()

    def tune(self, workload: Workload) -> Tuned:
        """AgentHub has nothing to tune here: it chooses its index by measured recall itself."""
        unfiltered = recall(self.answers("single"), workload.nearest)
        return Tuned(unfiltered, recall(self.answers("filtered"), workload.nearest_filtered), "its own choice")

    def search_path(self) -> str:
        return f"{self._base}/search"

    def body(self, kind: Kind, vectors: Sequence[Any]) -> dict[str, Any]:
        encoded = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
        asked: dict[str, Any] = {"vectors": encoded} if kind == "batch" else {"vector": encoded[0]}
        chosen = {"field": "category", "op": "eq", "value": WANTED_CATEGORY}
        return asked | {"top_k": TOP_K, "mode": "semantic"} | ({"filter": chosen} if kind == "filtered" else {})

    def found(self, answer: Any) -> list[list[int]]:
        results = answer.get("results", [answer])
        return [[item_number(hit["chunk_id"]) for hit in result["hits"]] for result in results]


def _chunks(workload: Workload) -> Iterator[bytes]:
    for items, vectors in workload.batches():
        fields = [
            {"id": item.id, "text": item.text, "metadata": item.metadata, "vector": base64.b64encode(vector.tobytes()).decode()}
            for item, vector in zip(items, vectors, strict=True)
        ]
        yield orjson.dumps({"items": fields})
