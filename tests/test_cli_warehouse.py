"""`warehouse run|status|end` and `migrate`, with a database and a project."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from agenthub.cli import cli
from agenthub.core.errors import StorageUnavailable
from agenthub.storage.bigquery.warehouse import BigQueryWarehouse
from agenthub.storage.configuration import BigQuerySettings
from tests.api import OWNER, Api, make_app
from tests.servers.agenthub_server import free_port
from tests.servers.bigquery import BigQueryPlace
from tests.storage.warehouse.in_memory import TABLES


def environment(folder: Path, place: BigQueryPlace, dataset: BigQuerySettings) -> dict[str, str]:
    return {
        "DATABASE_URL": f"sqlite:///{folder}/agenthub.db",
        "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on",
        "AGENTHUB_LOG_LEVEL": "error",
        **place.environment(dataset),
    }


def test_events_of_a_deployment_flow_by_command(
    bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment(tmp_path, bigquery_place, bigquery_dataset)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    runner = CliRunner()
    migrated = runner.invoke(cli, ["migrate"])
    assert migrated.exit_code == 0, migrated.output
    assert f"{bigquery_dataset.dataset} has its tables" in migrated.output
    assert "nothing was exported yet; 0 rows wait" in runner.invoke(cli, ["warehouse", "status"]).output
    api = Api(make_app(tmp_path, **given)).login(**OWNER)
    api.post("/api/agents", {"name": "Robin"}, 201)
    events = len(api.get("/api/logs/audit")["items"])
    ran = runner.invoke(cli, ["warehouse", "run", "--once"])
    assert ran.exit_code == 0, ran.output
    assert "rows exported" in ran.output
    warehouse = BigQueryWarehouse(bigquery_dataset)
    assert warehouse.count(TABLES[0])[0] >= events
    warehouse.close()
    assert "0 rows behind" in runner.invoke(cli, ["warehouse", "status"]).output
    assert "no more events are noted" in runner.invoke(cli, ["warehouse", "end", "--yes"]).output
    assert "nothing was exported yet" in runner.invoke(cli, ["warehouse", "status"]).output


def test_a_warehouse_that_is_away_stops_the_command_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = BigQuerySettings("agenthub-test", "away", "US", f"http://127.0.0.1:{free_port()}")
    for name, value in environment(tmp_path, BigQueryPlace("agenthub-test", dataset.endpoint), dataset).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGENTHUB_BIGQUERY_TIMEOUT_SECONDS", "5")
    runner = CliRunner()
    make_app(tmp_path, f"sqlite:///{tmp_path}/agenthub.db", AGENTHUB_ACCEPT_EPHEMERAL_SQLITE="on")
    ran = runner.invoke(cli, ["warehouse", "run", "--once"])
    assert isinstance(ran.exception, StorageUnavailable)
    assert "1 tries: BigQuery can't be reached in time" in runner.invoke(cli, ["warehouse", "status"]).output


def test_without_a_project_there_is_no_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "memory://")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    refused = CliRunner().invoke(cli, ["warehouse", "status"])
    assert refused.exit_code == 1
    assert "there is no warehouse" in refused.output
