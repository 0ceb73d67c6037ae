"""Figures over HTTP: what an organization did, counted by whom, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenthub.web.access import EXTENSION
from tests.api import OWNER, Api, make_app
from tests.storage.warehouse.in_memory import InMemoryWarehouse

SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,agents.*,platform.*,analytics.*", "AGENTHUB_MAINTENANCE": "off"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An organization that uploaded a text, asked two questions and got a response."""
    signed_in = Api(make_app(tmp_path_factory.mktemp("analytics"), **SERVICES)).login(**OWNER)
    base = signed_in.post("/api/knowledge-bases", {"name": "Harbour"}, 201)["id"]
    signed_in.post(f"/api/knowledge-bases/{base}/documents", {"title": "Lamp", "text": "The keeper lights the lamp at dusk."}, 201)
    asked: dict[str, Any] = {"knowledge_base_ids": [base]}
    signed_in.post("/api/rag/query", {"question": "When does the keeper light the lamp?", **asked})
    signed_in.post("/api/rag/query", {"question": "Who won the cup in 1987?", **asked})
    messages = [{"role": "user", "content": "When does the keeper light the lamp?"}]
    signed_in.post("/api/responses", {"messages": messages, "context": ["The keeper lights the lamp at dusk."]})
    yield signed_in
    signed_in.app.extensions[EXTENSION].close()


def keys(answer: Any) -> dict[str, int]:
    return {item["key"]: item["events"] for item in answer["items"]}


def test_uses_and_messages_are_counted_without_their_texts(api: Api) -> None:
    assert keys(api.get("/api/analytics/activity?by=name")) == {"rag.answer": 2, "response.answer": 1}
    assert keys(api.get("/api/analytics/activity?kind=message&by=name")) == {"rag.extractive": 1, "rag.none": 1, "response.extractive": 1}
    mine = api.get("/api/auth/me")["id"]
    by_user = api.get("/api/analytics/activity?by=actor_id")
    assert keys(by_user) == {mine: 3}
    assert by_user["items"][0]["seconds"] > 0
    kept = str(api.app.extensions[EXTENSION].storage._shelves["activity_events"].rows)
    assert "keeper" not in kept and "cup" not in kept


def test_turns_of_jobs_are_counted(api: Api) -> None:
    assert keys(api.get("/api/analytics/activity?kind=job&by=name")) == {"upload.queued": 1, "upload.succeeded": 1}


def test_audit_events_and_sign_ins_are_counted(api: Api) -> None:
    assert keys(api.get("/api/analytics/audit?by=action"))["knowledge_base.create"] == 1
    api.call("POST", "/api/auth/login", 401, json={"email": OWNER["email"], "password": "wrong wrong wrong"})
    (today,) = api.get("/api/analytics/sessions")["items"]
    assert (today["ok"], today["failed"], today["actors"]) == (1, 1, 1)


def test_the_answer_says_who_counted(api: Api) -> None:
    answer = api.get("/api/analytics/activity?kind=metric")
    assert answer == {"items": [], "next_cursor": None, "source": "memory", "lag_seconds": 0.0}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("by=tenant_id", "by"),
        ("kind=secret", "kind"),
        ("limit=201", "limit"),
        ("cursor=AAAA", "cursor"),
    ],
)
def test_what_can_not_be_counted_is_refused(api: Api, query: str, field: str) -> None:
    answer = api.send("GET", f"/api/analytics/activity?{query}")
    assert answer.status_code in (400, 422)
    assert answer.get_json()["error"]["field"] == field


def test_questions_go_to_the_warehouse_once_it_is_filled(tmp_path: Path) -> None:
    settings = {"GOOGLE_CLOUD_PROJECT": "agenthub-test", "BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:9", "AGENTHUB_WAREHOUSE": "off"}
    signed_in = Api(make_app(tmp_path, AGENTHUB_SERVICES="platform.*,agents.*,analytics.*", **settings)).login(**OWNER)
    resources, warehouse = signed_in.app.extensions[EXTENSION], InMemoryWarehouse()
    warehouse.backend = "bigquery"
    resources._opened["warehouse"] = warehouse
    assert signed_in.get("/api/analytics/audit")["source"] == "memory"
    before = signed_in.get("/api/database/warehouse")
    assert (before["configured"], before["filled"]) == (True, False)
    assert before["behind_rows"] > 0
    assert signed_in.post("/api/database/warehouse/run?seconds=20")["behind_rows"] == 0
    signed_in.post("/api/agents", {"name": "Robin"}, 201)
    answer = signed_in.get("/api/analytics/audit?by=action")
    assert answer["source"] == "bigquery"
    assert answer["lag_seconds"] > 0
    assert "agent.create" not in keys(answer)
    ran = signed_in.post("/api/database/warehouse/run")
    assert ran["exported_rows"] >= 1
    assert keys(signed_in.get("/api/analytics/audit?by=action"))["agent.create"] == 1
    after = signed_in.get("/api/database/warehouse")
    assert (after["filled"], after["behind_rows"], after["error"]) == (True, 0, None)
