"""What operators see of the cache and do to it, over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api, make_app
from tests.servers.memcached import Daemon, MemcachedServer

SERVICES = "knowledge.*,platform.*"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(make_app(tmp_path, AGENTHUB_SERVICES=SERVICES)).login()


def kinds(api: Api) -> dict[str, Any]:
    return {kind["kind"]: kind for kind in api.get("/api/embeddings/cache")["kinds"]}


def test_each_kind_shows_hits_misses_errors_bytes_and_latency(api: Api) -> None:
    api.post("/api/embeddings", {"texts": ["one", "two"]})
    api.post("/api/embeddings", {"texts": ["one", "two", "three"]})
    seen = kinds(api)["embedding"]
    assert (seen["hits"], seen["misses"], seen["errors"], seen["forged"], seen["operations"]) == (2, 3, 0, 0, 4)
    assert (seen["read_bytes"], seen["written_bytes"]) == (2 * 384 * 4, 3 * 384 * 4)
    assert seen["hit_ratio"] == 0.4
    assert seen["mean_ms"] > 0


def test_metrics_have_the_hit_ratio_and_the_errors_by_kind(api: Api) -> None:
    for _ in range(2):
        api.post("/api/embeddings", {"texts": ["one"]})
    text = api.send("GET", "/metrics").get_data(as_text=True)
    assert 'agenthub_cache_hit_ratio{kind="embedding"} 0.5' in text
    assert "# TYPE agenthub_cache_errors_total counter" in text


def test_errors_of_a_dead_server_are_shown_under_their_kind(tmp_path: Path, memcached: MemcachedServer) -> None:
    api = Api(make_app(tmp_path, AGENTHUB_SERVICES=SERVICES, MEMCACHED_SERVERS=memcached.address)).login()
    api.post("/api/embeddings", {"texts": ["one"]})
    memcached.kill()
    api.post("/api/embeddings", {"texts": ["one"]})
    assert kinds(api)["embedding"]["errors"] >= 1
    text = api.send("GET", "/metrics").get_data(as_text=True)
    # Which kind was the one that found it dead, and which only heard of it, is chance: the count of requests may come first.
    assert re.search(r'agenthub_cache_errors_total\{kind="embedding",reason="(failed|down)"\}', text)
    api.refused("POST", "/api/embeddings/cache/flush", 503, "cache_unavailable", json={"kind": "result"})
    assert not [event for event in audited(api) if event["action"] == "cache.flush"]


def test_a_server_that_can_not_be_used_is_said_in_health_and_does_no_harm(tmp_path: Path, cache_servers: dict[str, Daemon]) -> None:
    login = {"MEMCACHED_USERNAME": "hub", "MEMCACHED_PASSWORD": "wrong-password"}
    address = cache_servers["memcached-ascii"].address
    api = Api(make_app(tmp_path, AGENTHUB_SERVICES=SERVICES, MEMCACHED_SERVERS=address, **login)).login()
    check = api.get("/api/health")["checks"]["cache"]
    assert (check["status"], check["required"]) == ("failing", False)
    assert "refuses this user name and password" in str(check) and "wrong-password" not in str(check)
    assert api.send("GET", "/api/health/ready").status_code == 200
    api.post("/api/embeddings", {"texts": ["one"]})


def audited(api: Api) -> list[dict[str, Any]]:
    return list(api.get("/api/logs/audit")["items"])


def test_a_flush_forgets_one_kind_and_is_audited(api: Api) -> None:
    api.post("/api/embeddings", {"texts": ["one"]})
    assert api.post("/api/embeddings/cache/flush", {"kind": "result"}) == {"kind": "result", "reach": "this_process"}
    api.post("/api/embeddings", {"texts": ["one"]})
    assert kinds(api)["embedding"]["hits"] == 1
    api.post("/api/embeddings/cache/flush", {"kind": "embedding"})
    api.post("/api/embeddings", {"texts": ["one"]})
    assert kinds(api)["embedding"]["misses"] == 2
    flushed = [event for event in audited(api) if event["action"] == "cache.flush"]
    assert [(event["resource_kind"], event["resource_id"], event["result"]) for event in flushed] == [
        ("cache", "embedding", "ok"),
        ("cache", "result", "ok"),
    ]


def test_a_repeated_flush_is_one(api: Api) -> None:
    for _ in range(2):
        api.post("/api/embeddings/cache/flush", {"kind": "embedding"}, headers={"Idempotency-Key": "k"})
    assert len([event for event in audited(api) if event["action"] == "cache.flush"]) == 1


def test_an_unknown_kind_is_named(api: Api) -> None:
    api.refused("POST", "/api/embeddings/cache/flush", 422, "invalid_input", "kind", json={"kind": "sessions"})
