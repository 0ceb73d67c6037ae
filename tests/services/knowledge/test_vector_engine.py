"""The second vector engine over HTTP: moved to and fro by bundles, refused where it doesn't fit, and gone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import SettingsError
from agenthub.factory import create_app
from agenthub.jobs.runner import Runner
from agenthub.settings import Settings
from tests.api import Api, in_milvus, make_app
from tests.servers.agenthub_server import free_port

CHUNK: dict[str, Any] = {"json": {"items": [{"id": "a", "text": "Walruses have tusks."}]}, "headers": {"Idempotency-Key": "once"}}
SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,platform.*", "AGENTHUB_MAINTENANCE": "off"}


def open_api(folder: Path, **environment: str) -> Api:
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", **SERVICES, **environment)).login()


def test_an_unreachable_engine_is_503_and_nothing_is_half_there(tmp_path: Path) -> None:
    gone = {"VECTOR_STORE_URL": f"http://127.0.0.1:{free_port()}", "VECTOR_STORE_TIMEOUT_SECONDS": "1"}
    api = open_api(tmp_path, **gone)
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'zoo'}, 201)['id']}"
    started = time.monotonic()
    for _ in range(3):
        answer = api.send("POST", f"{base}/chunks", **CHUNK)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "vector_engine_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - started < 10
    assert (api.get(base)["generation"], api.get(base)["chunk_count"]) == (1, 0)
    assert api.post(f"{base}/search", {"query": "walrus"})["hits"] == []
    back = open_api(tmp_path, **in_milvus())
    assert back.call("POST", f"{base}/chunks", 200, **CHUNK)["generation"] == 2
    assert len(back.post(f"{base}/search", {"query": "walrus"})["hits"]) == 1
    away = open_api(tmp_path, **gone)
    refused = away.send("POST", f"{base}/search", json={"query": "walrus"})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (503, "vector_engine_unavailable")
    assert away.get(base)["chunk_count"] == 1


def test_an_upload_waits_for_the_engine_to_come_back(tmp_path: Path) -> None:
    gone = {"VECTOR_STORE_URL": f"http://127.0.0.1:{free_port()}", "VECTOR_STORE_TIMEOUT_SECONDS": "1"}
    api = open_api(tmp_path, **gone, AGENTHUB_JOBS="off")
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'zoo'}, 201)['id']}"
    job = api.post(f"{base}/documents?wait=0", {"title": "a", "text": "Walruses have tusks."}, 202)["job"]
    assert Runner(api.app.extensions["agenthub"]).run_once()
    assert api.get(f"/api/jobs/{job['id']}")["status"] not in ("succeeded", "failed")
    assert api.get(base)["chunk_count"] == 0
    back = open_api(tmp_path, **in_milvus(), AGENTHUB_JOBS="off")
    limit = time.monotonic() + 60
    while not Runner(back.app.extensions["agenthub"]).run_once():
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert back.get(f"/api/jobs/{job['id']}")["status"] == "succeeded"
    assert [document["title"] for document in back.get(f"{base}/documents")["items"]] == ["a"]
    assert len(back.post(f"{base}/search", {"query": "walrus"})["hits"]) == 1


def test_a_knowledge_base_of_the_other_engine_is_refused_by_name(tmp_path: Path) -> None:
    on_volume, in_both = open_api(tmp_path), {}
    for name, api in (("volume", on_volume), ("milvus", open_api(tmp_path, **in_milvus()))):
        base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': name}, 201)['id']}"
        api.post(f"{base}/chunks", CHUNK["json"])
        in_both[name] = base
    milvus = open_api(tmp_path, **in_milvus())
    for api, name in ((on_volume, "milvus"), (milvus, "volume")):
        said: dict[str, Any] = api.refused("POST", f"{in_both[name]}/search", 409, "wrong_vector_engine", json={"query": "walrus"})
        assert "VECTOR_STORE_URL" in said["message"] and "bundle" in said["message"]


def test_the_pages_say_which_engine_is_in_use(tmp_path: Path) -> None:
    health = open_api(tmp_path, **in_milvus()).get("/api/health")
    assert health["backends"]["vector"] == "milvus"
    assert health["checks"]["vectors"]["status"] == "ok"


def test_a_missing_client_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.resources.find_spec", lambda _: None)
    environment = {"DATABASE_URL": "memory://", "VECTOR_STORE_URL": "http://milvus:19530", "AGENTHUB_SERVICES": "knowledge.*"}
    with pytest.raises(SettingsError, match=r"pymilvus.*requirements-milvus.txt"):
        create_app(Settings.from_env(environment))
    create_app(Settings.from_env(environment | {"AGENTHUB_SERVICES": "platform.system-health"}))  # which needs none
