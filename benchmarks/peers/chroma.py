"""Chroma's server, asked through its HTTP interface as its own client does."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.peers.contract import RECALL_TARGET, TOP_K, BenchmarkFailure, Ingested, Kind, Tuned
from benchmarks.peers.http_load import Client
from benchmarks.peers.http_peer import HttpPeer
from benchmarks.peers.processes import inherited
from benchmarks.peers.workload import WANTED_CATEGORY, Workload, item_number, recall

DEPTHS: Final = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1200)
"""Values of ef_search, cheapest first."""

_COLLECTIONS: Final = "/api/v2/tenants/default_tenant/databases/default_database/collections"
_GRAPH: Final = {"space": "cosine", "ef_construction": 100, "max_neighbors": 16}


class Chroma(HttpPeer):
    """`chroma run` with a folder on disk; two processors are its own choice, it is one process of many threads."""

    name = "chroma"

    def __init__(self, scratch: Path, ingest_clients: int, environment: Path) -> None:
        super().__init__(scratch, ingest_clients)
        self.folder = scratch / "chroma"
        self.folder.mkdir()
        self._program = environment / "bin" / "chroma"
        self._collection = ""

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        arguments = ["run", "--path", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)]
        return [str(self._program), *arguments], inherited() | {"ANONYMIZED_TELEMETRY": "False"}

    def ingest(self, workload: Workload) -> Ingested:
        self.await_up("/api/v2/heartbeat")
        created = Client(self.port).post(_COLLECTIONS, {"name": f"bench-{uuid.uuid4().hex[:8]}", "configuration": {"hnsw": _GRAPH}})
        self._collection = f"{_COLLECTIONS}/{created['id']}"
        return self.fill(f"{self._collection}/add", _records(workload), workload)

    def tune(self, workload: Workload) -> Tuned:
        """Raise ef_search until both recalls reach the target."""
        for depth in DEPTHS:
            body = orjson.dumps({"new_configuration": {"hnsw": {"ef_search": depth}}})
            Client(self.port).send("PUT", self._collection, body)
            unfiltered = recall(self.answers("single"), workload.nearest)
            if unfiltered < RECALL_TARGET:
                continue
            filtered = recall(self.answers("filtered"), workload.nearest_filtered)
            if filtered >= RECALL_TARGET:
                return Tuned(unfiltered, filtered, f"ef_search {depth}")
        raise BenchmarkFailure("Chroma does not reach the recall target")

    def search_path(self) -> str:
        return f"{self._collection}/query"

    def body(self, kind: Kind, vectors: Sequence[Any]) -> dict[str, Any]:
        asked: dict[str, Any] = {"query_embeddings": [vector.tolist() for vector in vectors], "n_results": TOP_K}
        asked["include"] = ["documents", "metadatas", "distances"]
        return asked | ({"where": {"category": WANTED_CATEGORY}} if kind == "filtered" else {})

    def found(self, answer: Any) -> list[list[int]]:
        return [[item_number(key) for key in keys] for keys in answer["ids"]]


def _records(workload: Workload) -> Iterator[bytes]:
    for items, vectors in workload.batches():
        fields = {
            "ids": [item.id for item in items],
            "documents": [item.text for item in items],
            "metadatas": [item.metadata for item in items],
            "embeddings": [base64.b64encode(vector.tobytes()).decode() for vector in vectors],
        }
        yield orjson.dumps(fields)
