"""Log lines: one per request, the request's id in each, no secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import structlog

from agenthub.web import logs
from agenthub.web.logs import clean_text, hide_secrets


@pytest.fixture
def _through_structlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an earlier test configured: access lines go where `capture_logs` sees them."""
    monkeypatch.setattr(logs._access_lines, "handler", None)


@pytest.mark.usefixtures("_through_structlog")
def test_each_request_has_one_line_with_route_principal_and_no_query(world: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = world.client().get("/api/notes?limit=7", headers=world.owner)
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["route"] == "/api/notes" and line["path"] == "/api/notes" and line["status"] == 200
    assert line["tenant_id"] and line["principal_id"] and line["duration_ms"] >= 0
    assert "limit" not in json.dumps(line)
    token = world.owner["Authorization"].removeprefix("Bearer ")
    assert token not in json.dumps(lines)
    assert answer.status_code == 200


@pytest.mark.usefixtures("_through_structlog")
def test_probes_are_quiet_and_failures_are_loud(world: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        world.client().get("/api/health/live")
        world.client().get("/api/notes/broken")
    levels = {line["path"]: line["log_level"] for line in lines if line["event"] == "request"}
    assert levels == {"/api/health/live": "debug", "/api/notes/broken": "warning"}
    assert any(line["event"] == "request failed" and line.get("exc_info") for line in lines)


def test_secrets_are_hidden_by_name_and_by_form() -> None:
    line = hide_secrets(
        None,
        "info",
        {
            "event": "went to postgresql://u:canary@h/d with Bearer canary-canary-canary",
            "password": "canary",
            "nested": {"api_key": "canary", "list": ["https://x/?token=canary&a=1"]},
            "token": None,
            "status": 200,
        },
    )
    assert "canary" not in json.dumps(line)
    assert line["status"] == 200 and line["token"] is None


def test_our_tokens_are_known_by_their_form() -> None:
    assert clean_text("x ahs_" + "A" * 43 + " y") == "x [hidden] y"


def test_a_process_logs_json_with_library_warnings_and_tracebacks() -> None:
    script = (
        "import logging, structlog, warnings\n"
        "from agenthub.settings import LogSettings\n"
        "from agenthub.web.logs import configure_logs, begin_line\n"
        "configure_logs(LogSettings('auto', 'info', 'stdout'))\n"
        "begin_line('rid-1')\n"
        "structlog.get_logger('a').info('own', password='canary')\n"
        "logging.getLogger('lib').warning('from %s', 'lib')\n"
        "warnings.warn('careful')\n"
        "try: 1/0\n"
        "except ZeroDivisionError: structlog.get_logger('a').exception('bad')\n"
        "structlog.get_logger('a').debug('not shown')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env={**os.environ})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"].split("\n")[0] for line in lines][:2] == ["own", "from lib"]
    assert len(lines) == 4 and all(line["request_id"] == "rid-1" for line in lines)
    assert "ZeroDivisionError" in lines[-1]["exception"]
    assert "canary" not in done.stdout


def test_a_process_writes_one_json_line_a_request_without_secrets() -> None:
    script = (
        "import os, tempfile\n"
        "from agenthub.factory import create_app\n"
        "from agenthub.settings import Settings\n"
        "from agenthub.web.logs import configure_logs\n"
        "folder = tempfile.mkdtemp()\n"
        "settings = Settings.from_env({'DATABASE_URL': 'memory://', 'VECTOR_STORE_BASE_PATH': folder,"
        " 'AGENTHUB_SERVICES': 'platform.authentication', 'AGENTHUB_LOG_FORMAT': 'json'})\n"
        "client = create_app(settings).test_client()\n"
        "configure_logs(settings.log)\n"
        "client.get('/api/health/live')\n"
        "client.get('/api/ahs_' + 'A' * 43, headers={'X-Request-ID': 'ahk_' + 'B' * 43})\n"
        "client.get('/api/auth/me', headers={'X-Request-ID': 'rid-1'})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env={**os.environ})
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if '"request"' in line]
    assert [line["status"] for line in lines] == [404, 401]  # the probe is quiet
    assert [line["request_id"] for line in lines] == ["[hidden]", "rid-1"]
    assert [line["path"] for line in lines] == ["/api/[hidden]", "/api/auth/me"]
    assert {line["level"] for line in lines} == {"info"} and {line["logger"] for line in lines} == {"agenthub.access"}
    assert all(line["timestamp"].endswith("Z") and line["duration_ms"] >= 0 for line in lines)
