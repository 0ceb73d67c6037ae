"""The benchmark computes what it says and fails when it should."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.retrieval import __main__ as benchmark
from benchmarks.retrieval.client import BenchmarkFailure, Client
from benchmarks.retrieval.collections import load_collection, mean_ndcg, ndcg


def test_ndcg_of_known_rankings() -> None:
    gains = {"a": 3.0, "b": 1.0}
    assert ndcg(["a", "b"], gains) == 1
    assert ndcg(["x", "y"], gains) == ndcg([], gains) == 0
    assert ndcg(["b", "a"], gains) == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))
    assert ndcg([*"0123456789", "a"], gains) == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "cranfield"
    folder.mkdir()
    rows = [{"id": str(i), "title": f"title {i}", "text": f"text {i}"} for i in range(130)] + [{"id": "empty", "title": "", "text": " "}]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    queries = [{"id": f"q{i}", "text": f"find {i}"} for i in range(60)] + [{"id": "unjudged", "text": "nothing"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels.tsv").write_text("query_id\tdoc_id\trelevance\n" + "".join(f"q{i}\t{i}\t1\n" for i in range(60)))
    return tmp_path


def test_a_collection_is_read_without_empty_and_unjudged_rows(data: Path) -> None:
    collection = load_collection(data / "cranfield")
    assert (len(collection.documents), len(collection.queries)) == (130, 60)
    assert collection.documents["7"] == "title 7\ntext 7"
    assert mean_ndcg({"q0": ["0"], "q1": ["x"]}, collection) == pytest.approx(1 / 60)


class FakeHub:
    """Speaks the used part of the HTTP contract over a list of texts: a query `find N` finds chunk N, at `rank`."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self.chunks: dict[str, str] = {}
        self.deleted = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body: dict[str, Any] = json.loads(request.content) if request.content else {}
        path = request.url.path
        if path == "/api/auth/login":
            return self._login(body)
        if request.headers.get("Authorization") != "Bearer token" or not request.headers.get("Idempotency-Key"):
            return httpx.Response(401, json={"error": {"code": "unauthenticated", "message": "who?"}})
        if request.method == "DELETE":
            self.deleted = True
            return httpx.Response(204)
        return self._answer(path, body)

    def _login(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"session_token": "token"}) if body["password"] == "right" else httpx.Response(401, json={})

    def _answer(self, path: str, body: dict[str, Any]) -> httpx.Response:
        if path == "/api/knowledge-bases":
            return httpx.Response(201, json={"id": "kb1"})
        if path == "/api/knowledge-bases/kb1/chunks":
            self.chunks.update({item["id"]: item["text"] for item in body["items"]})
            return httpx.Response(200, json={"generation": 1, "added": len(body["items"])})
        if path != "/api/knowledge-bases/kb1/search":
            return httpx.Response(404, json={})
        return httpx.Response(200, json={"generation": 1, "results": [self._hits(query) for query in body["queries"]]})

    def _hits(self, query: str) -> dict[str, Any]:
        ids = [f"other{i}" for i in range(self.rank)] + [query.removeprefix("find ")]
        return {"hits": [{"chunk_id": chunk} for chunk in ids]}


def use(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "Client", lambda url: Client(url, httpx.MockTransport(hub)))


def arguments(data: Path, password: str = "right") -> list[str]:
    return ["--data", str(data), "--collection", "cranfield", "--password", password]


def test_all_documents_are_sent_and_the_base_is_deleted(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    use(hub, monkeypatch)
    assert benchmark.main(arguments(data)) == 0
    assert len(hub.chunks) == 130
    assert hub.deleted
    assert capsys.readouterr().out.count("1.0000") == 3


def test_a_figure_below_its_target_fails(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeHub(rank=4), monkeypatch)
    assert benchmark.main(arguments(data)) == 1
    assert capsys.readouterr().out.count("BELOW TARGET") == 2


def test_a_refused_login_fails_with_the_reason(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeHub(), monkeypatch)
    assert benchmark.main(arguments(data, "wrong")) == 1
    assert "401" in capsys.readouterr().err


def test_a_missing_collection_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(arguments(tmp_path)) == 2
    assert "corpus.jsonl" in capsys.readouterr().err


def test_the_base_is_deleted_after_a_failure(data: Path) -> None:
    hub = FakeHub()
    client = Client("http://hub", httpx.MockTransport(hub))
    client.login("owner@agenthub.com", "right")
    with pytest.raises(BenchmarkFailure), client.knowledge_base("x") as knowledge_base:
        client.rankings(knowledge_base + "/absent", {"q": "find 1"}, "hybrid")
    assert hub.deleted
