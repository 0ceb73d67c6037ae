"""A warehouse that can't be reached: requests don't notice, operators do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agenthub.web.access import EXTENSION
from tests.api import OWNER, Api, make_app
from tests.servers.agenthub_server import free_port


def served(folder: Path, **more: str) -> Api:
    away = {"GOOGLE_CLOUD_PROJECT": "agenthub-test", "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{free_port()}"}
    return Api(make_app(folder, AGENTHUB_SERVICES="platform.*,agents.*", AGENTHUB_BIGQUERY_TIMEOUT_SECONDS="5", **away, **more))


def figure(api: Api, name: str) -> float:
    lines = api.call("GET", "/metrics", 200).decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"agenthub_warehouse_{name} ")).split()[1])


def until(met: Any) -> None:
    limit = time.monotonic() + 240
    while not met():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_requests_go_on_and_the_lag_is_told(tmp_path: Path) -> None:
    api = served(tmp_path)
    resources = api.app.extensions[EXTENSION]
    resources.begin()
    signed_in = api.login(**OWNER)
    until(lambda: figure(api, "failing_seconds") > 0)
    signed_in.post("/api/agents", {"name": "Robin"}, 201)
    assert figure(api, "behind_rows") >= 2
    assert figure(api, "lag_seconds") > 0
    assert api.call("GET", "/api/health/ready", 200)["checks"]["warehouse"]["status"] == "ok", "for a minute that is no news"
    resources.end()


def test_health_says_why_it_is_stuck_and_stays_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.storage.warehouse.health.FAILING_SECONDS", -1.0)
    api = served(tmp_path)
    resources = api.app.extensions[EXTENSION]
    signed_in = api.login(**OWNER)
    resources.begin()
    until(lambda: figure(api, "failing_seconds") > 0)
    body = signed_in.get("/api/health")
    assert body["status"] == "ok"
    assert body["checks"]["warehouse"]["status"] == "failing"
    assert "BigQuery can't be reached in time" in body["checks"]["warehouse"]["reason"]
    resources.end()


def test_a_process_that_is_told_so_exports_nothing(tmp_path: Path) -> None:
    api = served(tmp_path, AGENTHUB_WAREHOUSE="off")
    resources = api.app.extensions[EXTENSION]
    resources.begin()
    api.login(**OWNER)
    assert figure(api, "failing_seconds") == 0
    assert not resources.exporter.standing().enabled
    resources.end()
