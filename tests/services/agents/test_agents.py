"""Agents over HTTP: life cycle, versions, status, bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("agents")
    return Api(make_app(folder, AGENTHUB_SERVICES="agents.*,platform.authentication,knowledge.knowledge-base")).login()


def create(api: Api, **fields: Any) -> dict[str, Any]:
    agent: dict[str, Any] = api.post("/api/agents", {"name": "Guide", **fields}, 201)
    return agent


def test_an_agent_lives_from_draft_to_deletion(api: Api) -> None:
    agent = create(api, system_prompt="Be kind.", settings={"temperature": 0.2})
    assert (agent["status"], agent["published_version"], agent["version"]) == ("draft", None, 1)
    path = f"/api/agents/{agent['id']}"
    changed = api.call("PATCH", path, 200, json={"description": "helps"})
    assert (changed["description"], changed["system_prompt"], changed["version"]) == ("helps", "Be kind.", 2)
    assert api.get(path) == changed
    api.call("DELETE", path, 204)
    api.refused("GET", path, 404, "not_found")
    api.refused("DELETE", path, 404, "not_found")


def test_versions_are_immutable_and_an_earlier_one_can_answer_again(api: Api) -> None:
    agent = create(api, system_prompt="one")
    path = f"/api/agents/{agent['id']}"
    published = api.post(f"{path}/publish", {"note": "first"})
    assert (published["published_version"], published["status"]) == (1, "active")
    api.call("PATCH", path, 200, json={"system_prompt": "two"})
    assert api.post(f"{path}/publish", {})["published_version"] == 2
    assert api.get(f"{path}/versions/1")["system_prompt"] == "one"
    back = api.post(f"{path}/rollback", {"number": 1})
    assert (back["published_version"], back["latest_version"], back["system_prompt"]) == (1, 2, "one")
    assert [v["number"] for v in api.get(f"{path}/versions")["items"]] == [2, 1]
    assert api.post(f"{path}/publish", {})["published_version"] == 3
    api.refused("POST", f"{path}/rollback", 404, "not_found", json={"number": 9})
    api.refused("GET", f"{path}/versions/99", 404, "not_found")


def test_an_update_may_be_guarded_by_the_version_read(api: Api) -> None:
    agent = create(api)
    path = f"/api/agents/{agent['id']}"
    api.call("PATCH", path, 200, json={"description": "a", "expected_version": 1})
    api.refused("PATCH", path, 409, "version_conflict", json={"description": "b", "expected_version": 1})
    assert api.get(path)["description"] == "a"


def test_a_model_can_be_taken_away_and_other_fields_can_not(api: Api) -> None:
    agent = create(api, model="gpt")
    path = f"/api/agents/{agent['id']}"
    assert api.call("PATCH", path, 200, json={"model": None})["model"] is None
    api.refused("PATCH", path, 422, "invalid_input", "name", json={"name": None})


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("name", {"name": "  "}),
        ("name", {"description": "no name"}),
        ("surprise", {"name": "a", "surprise": 1}),
        ("tenant_id", {"name": "a", "tenant_id": "x"}),
        ("status", {"name": "a", "status": "active"}),
        ("knowledge_base_ids[0]", {"name": "a", "knowledge_base_ids": ["../etc"]}),
        ("settings", {"name": "a", "settings": {"blob": "x" * 20_000}}),
        ("system_prompt", {"name": "a", "system_prompt": 7}),
    ],
)
def test_a_bad_agent_is_refused_by_field(api: Api, field: str, body: dict[str, Any]) -> None:
    before = len(api.get("/api/agents?limit=200")["items"])
    api.refused("POST", "/api/agents", 422, "invalid_input", field, json=body)
    assert len(api.get("/api/agents?limit=200")["items"]) == before


def test_bound_knowledge_bases_must_exist(api: Api) -> None:
    base = api.post("/api/knowledge-bases", {"name": "Facts", "embedding_model": None, "dimension": 3}, 201)
    agent = create(api, knowledge_base_ids=[base["id"]])
    assert agent["knowledge_base_ids"] == [base["id"]]
    missing = new_id()
    api.refused(
        "POST", "/api/agents", 404, "not_found", "knowledge_base_ids[1]", json={"name": "a", "knowledge_base_ids": [base["id"], missing]}
    )


def test_status_follows_its_rules(api: Api) -> None:
    agent = create(api)
    path = f"/api/agents/{agent['id']}"
    api.refused("POST", f"{path}/status", 409, "conflict", "status", json={"status": "active"})
    api.post(f"{path}/publish", {})
    assert api.post(f"{path}/status", {"status": "paused"})["status"] == "paused"
    assert api.post(f"{path}/status", {"status": "active"})["status"] == "active"
    assert api.post(f"{path}/status", {"status": "archived"})["status"] == "archived"
    api.refused("POST", f"{path}/publish", 409, "conflict", json={})
    api.refused("POST", f"{path}/status", 422, "invalid_input", "status", json={"status": "flying"})


def test_bulk_status_answers_for_each(api: Api) -> None:
    ready = [create(api)["id"] for _ in range(2)]
    for key in ready:
        api.post(f"/api/agents/{key}/publish", {})
    draft, missing = create(api)["id"], new_id()
    api.post(f"/api/agents/{ready[1]}/status", {"status": "paused"})
    answer = api.post("/api/agents/bulk-status", {"ids": [ready[0], ready[1], draft, missing], "status": "paused"})
    assert [item["result"] for item in answer["items"]] == ["changed", "unchanged", "refused", "refused"]
    assert (answer["changed"], answer["refused"]) == (1, 2)
    assert answer["items"][3]["error"]["code"] == "not_found"
    assert api.get(f"/api/agents/{ready[0]}")["status"] == "paused"
    assert api.get(f"/api/agents/{draft}")["status"] == "draft"


def test_lists_are_paged_without_gaps(api: Api) -> None:
    made = {create(api, name=f"paged {i}")["id"] for i in range(7)}
    seen: list[str] = []
    cursor = ""
    while True:
        page = api.get(f"/api/agents?limit=3{cursor}")
        seen += [agent["id"] for agent in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen))
    assert made <= set(seen)
    assert seen == sorted(seen, reverse=True)
    api.refused("GET", "/api/agents?cursor=nonsense", 400, "malformed_input", "cursor")
    api.refused("GET", "/api/agents?limit=201", 422, "invalid_input", "limit")


@pytest.mark.parametrize("path", ["/publish", "/rollback", "/status"])
def test_a_repeated_key_applies_a_change_once(api: Api, path: str) -> None:
    agent = create(api)
    api.post(f"/api/agents/{agent['id']}/publish", {})
    body = {"/publish": {"note": "again"}, "/rollback": {"number": 1}, "/status": {"status": "paused"}}[path]
    send = {"json": body, "headers": {"Idempotency-Key": f"key{path}{agent['id']}"}}
    first = api.send("POST", f"/api/agents/{agent['id']}{path}", **send)
    again = api.send("POST", f"/api/agents/{agent['id']}{path}", **send)
    assert first.status_code == again.status_code == 200
    assert first.data == again.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert api.get(f"/api/agents/{agent['id']}")["version"] == first.get_json()["version"]


def test_a_key_can_not_be_used_for_another_request(api: Api) -> None:
    headers = {"Idempotency-Key": "one-key"}
    api.post("/api/agents", {"name": "a"}, 201, headers=headers)
    api.refused("POST", "/api/agents", 409, "operation_reused", "Idempotency-Key", json={"name": "b"}, headers=headers)
