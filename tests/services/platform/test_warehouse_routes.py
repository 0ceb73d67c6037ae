"""The warehouse over HTTP, where there is none and where it is away. That it works is in test_analytics.py."""

from __future__ import annotations

from pathlib import Path

from tests.api import OWNER, Api, make_app
from tests.servers.agenthub_server import free_port


def test_without_one_it_says_so(tmp_path: Path) -> None:
    api = Api(make_app(tmp_path, AGENTHUB_SERVICES="platform.*")).login(**OWNER)
    assert api.get("/api/database/warehouse")["configured"] is False
    refused = api.call("POST", "/api/database/warehouse/run", 409)
    assert "GOOGLE_CLOUD_PROJECT" in refused["error"]["message"]


def test_one_that_is_away_is_503_to_the_scheduler_and_the_reason_is_kept(tmp_path: Path) -> None:
    settings = {"GOOGLE_CLOUD_PROJECT": "agenthub-test", "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{free_port()}"}
    api = Api(make_app(tmp_path, AGENTHUB_SERVICES="platform.*", AGENTHUB_BIGQUERY_TIMEOUT_SECONDS="5", **settings)).login(**OWNER)
    refused = api.send("POST", "/api/database/warehouse/run")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    standing = api.get("/api/database/warehouse")
    assert (standing["tries"], standing["error"]) == (1, "BigQuery can't be reached in time")
