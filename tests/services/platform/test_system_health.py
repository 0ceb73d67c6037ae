"""Service 22 over HTTP: live in every process, ready by dependency, details for those who may see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from agenthub import __version__
from agenthub.core.errors import StorageUnavailable
from agenthub.factory import create_app
from agenthub.settings import Settings
from agenthub.web.access import EXTENSION
from tests.rag.samples import milvus_file
from tests.servers.agenthub_server import free_port

OWNER = {"email": "owner@example.com", "password": "a-long-test-password-1"}


def body_of(answer: Any) -> Any:
    return answer.json


def serve(tmp_path: Path, services: str, **more: str) -> Flask:
    base = {"DATABASE_URL": "memory://", "VECTOR_STORE_BASE_PATH": str(tmp_path / "volume"), "AGENTHUB_SERVICES": services}
    return create_app(Settings.from_env(base | more))


@pytest.mark.parametrize("services", ["platform.system-health", "agents.*", "knowledge.*"])
def test_every_process_is_live_and_ready(tmp_path: Path, services: str) -> None:
    client = serve(tmp_path, services).test_client()
    assert body_of(client.get("/api/health/live")) == {"status": "ok"}
    assert client.get("/api/health/ready").status_code == 200


def test_readiness_has_each_dependency_with_its_latency_and_nothing_else(tmp_path: Path) -> None:
    body = body_of(serve(tmp_path, "knowledge.*").test_client().get("/api/health/ready"))
    assert set(body["checks"]) == {"storage", "volume", "cache", "embedding"}
    assert all(set(check) == {"status", "latency_ms"} for check in body["checks"].values())


def test_the_vector_engines_server_is_a_dependency_where_it_is_chosen(tmp_path: Path) -> None:
    answer = serve(tmp_path, "knowledge.*", VECTOR_STORE_URL=milvus_file(), WEB_CONCURRENCY="1").test_client().get("/api/health/ready")
    assert body_of(answer)["checks"]["vectors"]["status"] == "ok"
    gone = serve(tmp_path, "knowledge.*", VECTOR_STORE_URL=f"http://127.0.0.1:{free_port()}", VECTOR_STORE_TIMEOUT_SECONDS="1")
    refused = gone.test_client().get("/api/health/ready")
    assert refused.status_code == 503 and refused.headers["Retry-After"]
    assert body_of(refused)["checks"]["vectors"]["status"] == "failing"
    assert body_of(refused)["checks"]["volume"]["status"] == "ok"


def test_a_process_checks_only_what_it_uses(tmp_path: Path) -> None:
    assert set(body_of(serve(tmp_path, "platform.system-health").test_client().get("/api/health/ready"))["checks"]) == {"storage", "cache"}


def test_a_failing_volume_is_503_and_live_stays_200(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("a file stands where the folder should be")
    client = serve(tmp_path, "knowledge.*").test_client()
    answer = client.get("/api/health/ready")
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert body_of(answer)["status"] == "failing" and body_of(answer)["checks"]["volume"]["status"] == "failing"
    assert str(tmp_path) not in answer.text
    assert client.get("/api/health/live").status_code == 200


def test_a_lost_database_is_noticed_and_so_is_its_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = serve(tmp_path, "platform.system-health")
    storage = app.extensions[EXTENSION].storage
    monkeypatch.setattr("agenthub.web.readiness.time.monotonic", iter(range(0, 1000, 10)).__next__)

    def fail() -> float:
        raise StorageUnavailable("postgresql://u:canary@host is gone")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "ping", fail)
        answer = app.test_client().get("/api/health/ready")
        assert answer.status_code == 503 and "canary" not in answer.text
    assert app.test_client().get("/api/health/ready").status_code == 200


def test_details_need_the_permission_and_name_the_backends(tmp_path: Path) -> None:
    app = serve(
        tmp_path,
        "platform.*,knowledge.*",
        AGENTHUB_OWNER_EMAIL=OWNER["email"],
        AGENTHUB_OWNER_PASSWORD=OWNER["password"],
    )
    client = app.test_client()
    assert client.get("/api/health").status_code == 401
    token = body_of(client.post("/api/auth/login", json=OWNER))["session_token"]
    body = body_of(client.get("/api/health", headers={"Authorization": f"Bearer {token}"}))
    assert body["version"] == __version__ and body["status"] == "ok"
    assert body["backends"]["storage"] == "memory" and body["backends"]["cache"] == "in-process"
    assert {service["name"] for service in body["services"]} >= {"platform.authentication", "knowledge.similarity-search"}
    assert body["checks"]["volume"]["facts"]["kind"] and body["checks"]["storage"]["required"] is True
    assert body["checks"]["embedding"]["facts"]["dimension"] == 384
