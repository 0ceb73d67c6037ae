"""A bundle of 100,000 chunks leaves while others write and comes in elsewhere: the same contents, the same answers, nothing embedded."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from agenthub.core.ids import new_id
from agenthub.rag.embedding.cached import CachedEmbedder
from agenthub.rag.vectors import Vectors
from benchmarks.peers.workload import DIMENSION, Workload, make_workload
from tests.api import Api, make_app

CHUNKS: Final = 100_000
BATCH: Final = 1000
SERVICES: Final = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_MAX_BUNDLE_BYTES": str(2**31)}
FILTER: Final = {"field": "category", "op": "eq", "value": 3}


class Embedding:
    """Stands for the model: a vector for each text it was told of, and how many it was asked for."""

    def __init__(self, workload: Workload) -> None:
        self.known = {workload.item(number).text: workload.vectors[number] for number in range(CHUNKS)}
        self.asked = 0

    def embed(self, texts: Sequence[str], **_: Any) -> Vectors:
        self.asked += len(texts)
        fallback = np.ones(DIMENSION, dtype=np.float32) / np.sqrt(np.float32(DIMENSION))
        return np.stack([self.known.get(text, fallback) for text in texts])


def fill(api: Api, workload: Workload) -> str:
    path = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': new_id()}, 201)['id']}"
    for items, _ in workload.batches(BATCH):
        body = {"items": [{"id": item.id, "text": item.text, "metadata": item.metadata} for item in items]}
        while api.send("POST", f"{path}/chunks", json=body).status_code == 429:
            time.sleep(1)
    return path


def exported_under_writes(api: Api, path: str) -> tuple[bytes, int, int]:
    """The bundle, the generation it holds, and how many writes were acknowledged while it was made."""
    done, written = threading.Event(), list[int]()

    def write() -> None:
        writer = Api(api.app, api.token)
        while not done.is_set():
            key = new_id()
            added = writer.post(f"{path}/chunks", {"items": [{"id": key, "text": f"late {key}"}]})
            written.append(added["generation"])
            writer.post(f"{path}/chunks/delete", {"ids": [key]})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not written:
            time.sleep(0.01)
        answer = api.send("GET", f"{path}/export")
    finally:
        done.set()
        thread.join()
    assert answer.status_code == 200
    return answer.data, int(answer.headers["X-KB-Generation"]), len(written)


def answers(api: Api, path: str, workload: Workload, generation: int | None = None) -> list[Any]:
    found = []
    for number in range(0, CHUNKS, CHUNKS // 20):
        for mode in ("semantic", "keyword", "hybrid"):
            body = {"query": workload.item(number).text, "mode": mode, "top_k": 10, "query_syntax": "plain"}
            for more in ({}, {"filter": FILTER}):
                at = {"generation": generation} if generation else {}
                hits = api.post(f"{path}/search", body | more | at)["hits"]
                found.append([(hit["chunk_id"], round(hit["score"], 4)) for hit in hits])
    return found


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_100000_chunks_come_in_elsewhere_as_they_left(
    source: str, target: str, tmp_path: Path, migrated_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"sqlite": f"sqlite:///{tmp_path}/agenthub.sqlite3", "postgresql": migrated_postgresql}
    workload = make_workload(CHUNKS)
    embedding = Embedding(workload)
    monkeypatch.setattr(CachedEmbedder, "embed", embedding.embed)
    here = Api(make_app(tmp_path / "here", urls[source], **SERVICES)).login()
    path = fill(here, workload)
    bundle, generation, written = exported_under_writes(here, path)
    assert written >= 1 and embedding.asked >= CHUNKS
    there = Api(make_app(tmp_path / "there", urls[target], **SERVICES)).login()
    asked = embedding.asked
    taken = there.call("POST", f"/api/knowledge-bases/import?name={new_id()}", 201, data=bundle, content_type="application/x-tar")
    assert embedding.asked == asked, "an import embeds nothing"
    copy = f"/api/knowledge-bases/{taken['knowledge_base']['id']}"
    content = here.get(f"{path}/generations/{generation}/content")
    assert taken["content_sha256"] == content["content_sha256"] == there.get(f"{copy}/generations/1/content")["content_sha256"]
    assert CHUNKS <= there.get(copy)["chunk_count"] == content["chunk_count"] <= CHUNKS + 1
    assert answers(there, copy, workload) == answers(here, path, workload, generation)
