"""Metrics: what is counted, and who may read it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agenthub.web.metrics import Metrics

TOKEN = "a-metrics-token-of-enough-length"
OUTSIDE = {"REMOTE_ADDR": "198.51.100.7"}


def test_requests_are_counted_by_template_not_by_address(world: Any) -> None:
    world.client().get("/api/notes/0" + "0" * 25, headers=world.owner)
    world.client().get("/some/strange/path")
    text = world.client().get("/metrics").text
    assert 'agenthub_http_requests_total{method="GET",route="/api/notes/<note_id>",status="404"}' in text
    assert 'route="unmatched"' in text and "strange" not in text
    assert 'agenthub_http_request_duration_seconds_bucket{le="0.01",route="/api/notes/<note_id>"}' in text


def test_the_backends_are_named(world: Any) -> None:
    text = world.client().get("/metrics").text
    assert 'agenthub_storage_backend{backend="memory"} 1.0' in text
    assert "agenthub_info{" in text and 'storage="memory"' in text


def test_without_a_token_only_this_machine_may_read(world: Any) -> None:
    client = world.client()
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", environ_overrides=OUTSIDE).status_code == 401
    assert client.get("/metrics", headers={"X-Forwarded-For": "198.51.100.7"}).status_code == 401


def test_a_principal_needs_the_permission(world: Any) -> None:
    client = world.client()
    assert client.get("/metrics", headers=world.owner, environ_overrides=OUTSIDE).status_code == 200
    assert client.get("/metrics", headers=world.viewer, environ_overrides=OUTSIDE).status_code == 403


def test_a_configured_token_is_the_door_for_all(make_app: Any) -> None:
    client = make_app(AGENTHUB_METRICS_TOKEN=TOKEN)[0].test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, environ_overrides=OUTSIDE).status_code == 200


def test_engines_may_report_with_or_without_suffix_and_never_fail() -> None:
    metrics = Metrics()
    metrics.count("embedding_cache", 3, result="hit")
    metrics.count("embedding_cache_total", result="hit")
    metrics.time("vector_search", 0.002, phase="scan")
    metrics.count("something_new", kind="a")
    metrics.count("something_new", other="b")
    text = metrics.exposition().decode()
    assert 'agenthub_embedding_cache_total{result="hit"} 4.0' in text
    assert 'agenthub_vector_search_seconds_count{phase="scan"} 1.0' in text
    assert 'agenthub_something_new_total{kind="a"} 1.0' in text


@pytest.mark.parametrize("count", [3])
def test_processes_that_share_a_folder_are_summed(tmp_path: Path, count: int) -> None:
    script = (
        "from agenthub.web.metrics import Metrics\n"
        f"m = Metrics({str(tmp_path)!r})\n"
        "m.describe(version='1', storage='s', cache='c', vector='v', embedding='e')\n"
        "m.count('embedding_cache', result='hit')\n"
        "print(m.exposition().decode())\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    outputs = [
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True) for _ in range(count)
    ]
    assert f'agenthub_embedding_cache_total{{result="hit"}} {count}.0' in outputs[-1].stdout


def test_what_has_no_labels_is_measured_too() -> None:
    metrics = Metrics()
    metrics.count("kb_merges", 2)
    metrics.time("kb_merging", 0.5)
    text = metrics.exposition().decode()
    assert "agenthub_kb_merges_total 2.0" in text
    assert "agenthub_kb_merging_seconds_count 1.0" in text
