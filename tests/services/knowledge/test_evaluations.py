"""Saved questions and evaluations over HTTP: of generations, of settings, compared and kept."""

from __future__ import annotations

from typing import Any

import pytest

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.knowledge.evaluations import EvaluationRepository, QuestionRepository
from agenthub.storage.contract import Compare
from tests.api import Api, make_app

TABLES = (QuestionRepository.table, EvaluationRepository.table)
SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_MAINTENANCE": "off"}
TEXTS = {
    "lamp": "The keeper lights the lamp at dusk.",
    "ice": "The ice house opens at eleven.",
    "nets": "Old nets hang in the museum of the harbour.",
}
QUESTIONS = {"lamp": "When is the light switched on?", "ice": "When does the ice house open?", "nets": "What is shown in the museum?"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(make_app(tmp_path_factory.mktemp("evaluations"), **SERVICES)).login()


@pytest.fixture
def base(api: Api) -> str:
    return f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': new_id()}, 201)['id']}"


@pytest.fixture
def ids(api: Api, base: str) -> dict[str, str]:
    return {name: api.post(f"{base}/documents", {"title": name, "text": text}, 201)["id"] for name, text in TEXTS.items()}


def asked(ids: dict[str, str]) -> list[dict[str, Any]]:
    return [{"question": text, "expected_document_ids": [ids[name]]} for name, text in QUESTIONS.items()]


def test_questions_are_saved_changed_and_forgotten(api: Api, base: str, ids: dict[str, str]) -> None:
    made = api.post(f"{base}/questions", {**asked(ids)[0], "note": "from a customer"}, 201)
    assert api.get(f"{base}/questions/{made['id']}") == made
    changed = api.call("PATCH", f"{base}/questions/{made['id']}", 200, json={"expected_document_ids": [ids["ice"]], "expected_version": 1})
    assert (changed["expected_document_ids"], changed["version"], changed["note"]) == ([ids["ice"]], 2, "from a customer")
    api.refused("PATCH", f"{base}/questions/{made['id']}", 409, "version_conflict", json={"note": "x", "expected_version": 1})
    api.refused("PATCH", f"{base}/questions/{made['id']}", 422, "invalid_input", "note", json={"note": None})
    assert [item["id"] for item in api.get(f"{base}/questions")["items"]] == [made["id"]]
    api.call("DELETE", f"{base}/questions/{made['id']}", 204)
    assert api.get(f"{base}/questions")["items"] == []
    api.refused("POST", f"{base}/evaluate", 409, "conflict", "questions", json={})


def test_a_generation_is_judged_and_kept(api: Api, base: str, ids: dict[str, str]) -> None:
    for question in asked(ids):
        api.post(f"{base}/questions", question, 201)
    answer = api.post(f"{base}/evaluate", {"k": 3})
    evaluation = answer["evaluation"]
    assert (evaluation["question_count"], evaluation["generation"], answer["other"], answer["differences"]) == (3, 4, None, [])
    assert evaluation["ndcg"] == evaluation["recall"] == evaluation["mrr"] == 1 and evaluation["failures"] == 0
    assert {result["question"] for result in evaluation["results"]} == set(QUESTIONS.values())
    assert api.get(f"{base}/evaluations/{evaluation['id']}") == evaluation
    (listed,) = api.get(f"{base}/evaluations")["items"]
    assert listed == {name: value for name, value in evaluation.items() if name != "results"}
    api.call("DELETE", f"{base}/evaluations/{evaluation['id']}", 204)
    api.refused("GET", f"{base}/evaluations/{evaluation['id']}", 404, "not_found")


def test_two_generations_are_compared(api: Api, base: str, ids: dict[str, str]) -> None:
    api.call("DELETE", f"{base}/documents/{ids['nets']}", 200)
    answer = api.post(f"{base}/evaluate", {"questions": asked(ids), "compare_with": {"generation": 4}})
    now, then = answer["evaluation"], answer["other"]
    assert (now["generation"], then["generation"], now["failures"], then["failures"]) == (5, 4, 1, 0)
    assert now["recall"] == pytest.approx(2 / 3) and then["recall"] == 1
    assert answer["differences"] == [{"question": QUESTIONS["nets"], "ndcg": 0.0, "other_ndcg": 1.0}]
    assert len(api.get(f"{base}/evaluations")["items"]) == 2


def test_two_settings_are_compared(api: Api, base: str, ids: dict[str, str]) -> None:
    settings = {"mode": "semantic", "filter": {"field": "title", "op": "ne", "value": "ice"}}
    body = {"questions": asked(ids), "k": 1, "settings": {"mode": "semantic"}, "compare_with": {"settings": settings}}
    answer = api.post(f"{base}/evaluate", body)
    assert answer["evaluation"]["settings"]["mode"] == answer["other"]["settings"]["mode"] == "semantic"
    assert [one["question"] for one in answer["differences"]] == [QUESTIONS["ice"]]
    assert len(answer["evaluation"]["results"][0]["found"]) == 1


def test_what_can_not_be_evaluated_is_refused(api: Api, base: str, ids: dict[str, str]) -> None:
    api.refused("POST", f"{base}/evaluate", 422, "invalid_input", "questions", json={"questions": asked(ids) * 67})
    api.refused("POST", f"{base}/evaluate", 404, "not_found", "generation", json={"questions": asked(ids), "generation": 99})
    rerank = {"questions": asked(ids), "settings": {"rerank": True}}
    api.refused("POST", f"{base}/evaluate", 409, "conflict", "rerank", json=rerank)
    filtered = {"questions": asked(ids), "settings": {"filter": {"field": "x"}}}
    api.refused("POST", f"{base}/evaluate", 422, "invalid_input", "settings.filter.op", json=filtered)


def test_a_deleted_knowledge_base_takes_them_along(api: Api, base: str, ids: dict[str, str]) -> None:
    api.post(f"{base}/questions", asked(ids)[0], 201)
    api.post(f"{base}/evaluate", {})
    storage, key = api.app.extensions["agenthub"].storage, base.rsplit("/", 1)[1]
    mine = Compare("knowledge_base_id", "eq", key)
    assert [storage.count(table, EVERY_TENANT, mine) for table in TABLES] == [1, 1]
    api.call("DELETE", base, 204)
    assert [storage.count(table, EVERY_TENANT, mine) for table in TABLES] == [0, 0]


def test_a_repeated_evaluation_is_kept_once(api: Api, base: str, ids: dict[str, str]) -> None:
    send = {"json": {"questions": asked(ids), "compare_with": {}}, "headers": {"Idempotency-Key": new_id()}}
    first, second = (api.send("POST", f"{base}/evaluate", **send) for _ in range(2))
    assert first.data == second.data and len(api.get(f"{base}/evaluations")["items"]) == 2
