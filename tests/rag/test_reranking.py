"""A reranking endpoint is spoken to over real HTTP; whatever it does, there is one number for each text or a failure."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import ProviderFailure
from agenthub.core.ids import new_id
from agenthub.rag.configuration import RerankSettings
from agenthub.rag.reranking_endpoint import EndpointReranker, _read
from tests.api import Api, make_app
from tests.servers.openai_server import OpenAIServer, openai_server

KEY = "rk-secret-99"


def reranker_of(server: OpenAIServer, **settings: Any) -> EndpointReranker:
    return EndpointReranker(RerankSettings(server.url, "ranker", KEY, **settings))


def test_scores_come_in_the_order_of_the_texts() -> None:
    with openai_server() as server:
        reranker = reranker_of(server)
        scores = reranker.scores("what?", ["aaaa", "a", "aa \ud800"])
        reranker.close()
    assert scores == [1 / 5, 1 / 2, 1 / 5]
    assert server.requests[0]["documents"] == ["aaaa", "a", "aa ?"] and server.requests[0]["model"] == "ranker"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("fault", "retry"), [("busy", 7), ("broken", 1), ("denied", None), ("redirect", None), ("garbage", None), ("cut", 1)]
)
def test_failures_are_told_without_the_key(fault: str, retry: float | None) -> None:
    with openai_server(faults=[fault]) as server, pytest.raises(ProviderFailure) as caught:
        reranker_of(server).scores("what?", ["a"])
    assert caught.value.retry_after_seconds == retry and KEY not in caught.value.message and len(server.requests) == 1


@pytest.mark.parametrize("fault", ["hang", "drip", "drip_head"])
def test_every_wait_ends(fault: str) -> None:
    with openai_server(faults=[fault]) as server:
        started = time.monotonic()
        with pytest.raises(ProviderFailure):
            reranker_of(server, timeout_seconds=0.3).scores("what?", ["a"])
        assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"index": 0, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}, {"index": 2, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": None}],
        [{"index": 0, "relevance_score": 1}, {"index": True, "relevance_score": 1}],
        "none",
    ],
)
def test_nonsense_is_a_failure(results: Any) -> None:
    data = json.dumps({"results": results}).encode()
    with pytest.raises(ProviderFailure):
        _read(data, 2)


def test_a_search_is_reordered_by_it(tmp_path: Path) -> None:
    with openai_server() as server:
        settings = {
            "RERANK_BASE_URL": server.url,
            "RERANK_MODEL": "ranker",
            "RERANK_API_KEY": KEY,
            "AGENTHUB_SERVICES": "knowledge.*,platform.*",
        }
        api = Api(make_app(tmp_path, **settings)).login()
        base = api.post("/api/knowledge-bases", {"name": new_id()}, 201)["id"]
        items = [{"text": f"The lamp is lit{' at dusk' * n}."} for n in range(4)]
        api.post(f"/api/knowledge-bases/{base}/chunks", {"items": items})
        search = {"query": "lamp at dusk", "top_k": 3, "rerank": True}
        hits = api.post(f"/api/knowledge-bases/{base}/search", search)["hits"]
        assert [hit["text"] for hit in hits] == [item["text"] for item in items[:3]], "the shortest first, of more than were wanted"
        assert hits[0]["score"] == 1 / (1 + len(items[0]["text"]))
        server.faults = ["busy"]
        refused = api.send("POST", f"/api/knowledge-bases/{base}/search", json={**search, "query": "lamp at dawn"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (502, "7")
