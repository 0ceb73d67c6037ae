"""FAQs over HTTP: rows and chunks that never disagree, in searches, in time, in bundles, and in files."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app

SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_MAINTENANCE": "off"}
ITEMS: list[dict[str, Any]] = [
    {"question": "How do I return a parcel?", "answer": "Print the label and bring it to any shop.", "category": "Shipping", "priority": 5},
    {"question": "Can I pay by invoice?", "answer": "Yes, after the second order.", "category": "Payment", "metadata": {"lang": "en"}},
    {"question": "=1+1, what is that?", "answer": '\'=2, of course.\r\nOr "two", in words.'},
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder = tmp_path_factory.mktemp("faqs")
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", **SERVICES)).login()


@pytest.fixture
def base(api: Api) -> str:
    """The id of a fresh knowledge base with one document."""
    key: str = api.post("/api/knowledge-bases", {"name": new_id()}, 201)["id"]
    api.post(f"/api/knowledge-bases/{key}/documents", {"title": "keeper", "text": "The keeper lights the lamp at dusk."}, 201)
    return key


def add(api: Api, base: str, **more: Any) -> Any:
    return api.post("/api/faqs", {"knowledge_base_id": base, **ITEMS[0], **more}, 201)


def load(api: Api, base: str, status: int = 200, **more: Any) -> Any:
    return api.post("/api/faqs/import", {"knowledge_base_id": base, "items": ITEMS, **more}, status)


def listed(api: Api, base: str, **query: Any) -> list[dict[str, Any]]:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    items: list[dict[str, Any]] = api.get(f"/api/faqs?knowledge_base_id={base}{more}")["items"]
    return items


def told(faqs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((f["question"], f["answer"], f["category"] or "", f["priority"], sorted(f["metadata"])) for f in faqs)


def hits(api: Api, base: str, query: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.post(f"/api/knowledge-bases/{base}/search", {"query": query, **more})["hits"]
    return found


def agrees(api: Api, base: str) -> None:
    """Verify finds nothing, and every FAQ's row says what its one chunk says."""
    report = api.post(f"/api/knowledge-bases/{base}/verify", {})
    assert report["intact"], report
    for faq in listed(api, base, limit=200):
        (chunk,) = api.get(f"/api/knowledge-bases/{base}/documents/{faq['id']}/chunks")["items"]
        assert (chunk["text"], chunk["context"], chunk["metadata"]["priority"]) == (faq["answer"], faq["question"], faq["priority"])
        assert chunk["metadata"].items() >= faq["metadata"].items()


def test_a_faq_is_searchable_when_it_is_answered(api: Api, base: str) -> None:
    before = api.get(f"/api/knowledge-bases/{base}")
    faq = add(api, base)
    assert faq["generation"] == before["generation"] + 1
    for mode in ("semantic", "keyword", "hybrid"):
        best = hits(api, base, "how to return my parcel", mode=mode)[0]
        assert best["document_id"] == faq["id"] and best["text"] == faq["answer"]
        assert best["metadata"]["kind"] == "faq" and best["metadata"]["question"] == faq["question"]
    marked = hits(api, base, "parcel", filter={"field": "kind", "op": "eq", "value": "faq"})
    assert [hit["document_id"] for hit in marked] == [faq["id"]]
    after = api.get(f"/api/knowledge-bases/{base}")
    assert (after["document_count"], after["chunk_count"]) == (before["document_count"] + 1, before["chunk_count"] + 1)
    assert api.get(f"/api/faqs/{faq['id']}") == faq
    agrees(api, base)


def test_a_change_replaces_and_is_guarded(api: Api, base: str) -> None:
    faq = add(api, base)
    changed = api.call("PATCH", f"/api/faqs/{faq['id']}", 200, json={"answer": "By balloon.", "expected_version": 1})
    assert (changed["version"], changed["revision"], changed["question"]) == (2, 2, faq["question"])
    assert [hit["text"] for hit in hits(api, base, "return a parcel", filter={"field": "kind", "op": "eq", "value": "faq"})] == [
        "By balloon."
    ]
    api.refused("PATCH", f"/api/faqs/{faq['id']}", 409, "version_conflict", "expected_version", json={"priority": 1, "expected_version": 1})
    other = add(api, base, question="Another one?")
    asked = {"question": "how do I RETURN a parcel"}
    api.refused("PATCH", f"/api/faqs/{other['id']}", 409, "already_exists", "question", json=asked)
    assert api.call("PATCH", f"/api/faqs/{faq['id']}", 200, json=asked)["question"] == "how do I RETURN a parcel"
    same = api.send("PATCH", f"/api/faqs/{other['id']}", json={"priority": other["priority"]})
    assert same.get_json()["version"] == 1, "nothing new is no new generation"
    api.refused("PATCH", f"/api/faqs/{faq['id']}", 422, "invalid_input", "answer", json={"answer": None})
    agrees(api, base)


def test_the_same_question_is_asked_once(api: Api, base: str) -> None:
    faq = add(api, base)
    twin = {"knowledge_base_id": base, "question": "  HOW do i return: a parcel!", "answer": "Not at all."}
    api.refused("POST", "/api/faqs", 409, "already_exists", "question", json=twin)
    again = load(api, base, on_conflict="skip")
    assert (again["created"], again["replaced"], again["unchanged"]) == (2, 0, 1)
    load(api, base, 409, on_conflict="refuse")
    unchanged = load(api, base)
    assert (unchanged["created"], unchanged["replaced"], unchanged["unchanged"]) == (0, 0, 3)
    assert unchanged["generation"] == again["generation"]
    items = [{**item, "answer": "New."} for item in ITEMS]
    assert api.post("/api/faqs/import", {"knowledge_base_id": base, "items": items})["replaced"] == 3
    assert api.get(f"/api/faqs/{faq['id']}")["answer"] == "New."
    api.refused(
        "POST", "/api/faqs/import", 422, "invalid_input", "items[3].question", json={"knowledge_base_id": base, "items": [*ITEMS, ITEMS[0]]}
    )
    agrees(api, base)


def test_faqs_are_filtered_and_paged(api: Api, base: str) -> None:
    load(api, base)
    assert [f["question"] for f in listed(api, base, category="Payment")] == ["Can I pay by invoice?"]
    assert [f["answer"] for f in listed(api, base, question="can i pay BY invoice")] == ["Yes, after the second order."]
    page = api.get(f"/api/faqs?knowledge_base_id={base}&limit=2")
    rest = api.get(f"/api/faqs?knowledge_base_id={base}&limit=2&cursor={page['next_cursor']}")
    assert len({f["id"] for f in [*page["items"], *rest["items"]]}) == 3 and rest["next_cursor"] is None
    assert len(api.get(f"/api/knowledge-bases/{base}/documents?kind=faq")["items"]) == 3
    assert len(api.get(f"/api/knowledge-bases/{base}/documents?kind=document")["items"]) == 1
    api.refused("GET", "/api/faqs", 422, "invalid_input", "knowledge_base_id")


def test_deleted_faqs_are_found_no_more(api: Api, base: str) -> None:
    load(api, base)
    ids = [faq["id"] for faq in listed(api, base)]
    gone = api.post("/api/faqs/delete", {"knowledge_base_id": base, "ids": [ids[0], new_id()]})
    assert gone["deleted"] == [ids[0]] and len(gone["missing"]) == 1
    api.call("DELETE", f"/api/faqs/{ids[1]}", 200)
    api.refused("GET", f"/api/faqs/{ids[1]}", 404, "not_found")
    assert [hit["document_id"] for hit in hits(api, base, "?", filter={"field": "kind", "op": "eq", "value": "faq"})] in ([], [ids[2]])
    documents = api.get(f"/api/knowledge-bases/{base}/documents?kind=document")["items"]
    api.post("/api/faqs/delete", {"knowledge_base_id": base, "ids": [documents[0]["id"]]}, 404)
    agrees(api, base)


def test_other_doors_do_not_tear_a_faq_apart(api: Api, base: str) -> None:
    faq = add(api, base)
    here = f"/api/knowledge-bases/{base}"
    api.refused("PUT", f"{here}/documents/{faq['id']}", 409, "conflict", json={"title": "x", "text": "y"})
    (chunk,) = api.get(f"{here}/documents/{faq['id']}/chunks")["items"]
    api.refused("POST", f"{here}/chunks/delete", 409, "conflict", json={"ids": [chunk["id"]]})
    api.refused("POST", f"{here}/chunks", 409, "conflict", json={"items": [{"id": chunk["id"], "text": "mine"}]})
    original = api.send("GET", f"{here}/documents/{faq['id']}/original")
    assert original.status_code == 200 and b"Print the label" in original.data
    agrees(api, base)
    api.call("DELETE", f"{here}/documents/{faq['id']}", 200)
    api.refused("GET", f"/api/faqs/{faq['id']}", 404, "not_found")
    agrees(api, base)


def test_time_moves_faqs_with_everything_else(api: Api, base: str) -> None:
    faq = add(api, base)
    changed = api.call("PATCH", f"/api/faqs/{faq['id']}", 200, json={"answer": "By balloon."})
    assert [f["answer"] for f in listed(api, base, generation=faq["generation"])] == [faq["answer"]]
    then = hits(api, base, "return a parcel", generation=faq["generation"])
    assert then[0]["text"] == faq["answer"]
    api.post(f"/api/knowledge-bases/{base}/restore", {"generation": faq["generation"]})
    assert api.get(f"/api/faqs/{faq['id']}")["answer"] == faq["answer"]
    agrees(api, base)
    api.post(f"/api/knowledge-bases/{base}/undo")
    assert api.get(f"/api/faqs/{faq['id']}")["answer"] == changed["answer"]
    agrees(api, base)
    receipt = api.post(f"/api/knowledge-bases/{base}/documents/{faq['id']}/erase", status=202)
    assert receipt["state"] == "hidden"
    assert listed(api, base) == []


def test_a_bundle_carries_faqs(api: Api, base: str, tmp_path: Path) -> None:
    load(api, base)
    bundle = api.get(f"/api/knowledge-bases/{base}/export")
    other = Api(make_app(tmp_path, **SERVICES)).login()
    taken = other.call("POST", "/api/knowledge-bases/import", 201, data=bundle)
    copy = taken["knowledge_base"]["id"]
    generation = api.get(f"/api/knowledge-bases/{base}")["generation"]
    assert taken["content_sha256"] == api.get(f"/api/knowledge-bases/{base}/generations/{generation}/content")["content_sha256"]
    assert told(listed(other, copy)) == told(listed(api, base))
    agrees(other, copy)
    faq = listed(other, copy, question="can i pay by invoice")[0]
    other.call("PATCH", f"/api/faqs/{faq['id']}", 200, json={"answer": "No."})
    agrees(other, copy)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_what_goes_out_as_a_file_comes_in_as_it_was(api: Api, base: str, ending: str) -> None:
    load(api, base)
    answer = api.send("GET", f"/api/faqs/export{'.csv' if ending == 'csv' else ''}?knowledge_base_id={base}")
    assert answer.headers["Content-Disposition"].endswith(f'.{ending}"')
    if ending == "csv":
        assert b"'=1+1" in answer.data and b"\n=" not in answer.data, "no cell is a formula"
    other = api.post("/api/knowledge-bases", {"name": new_id()}, 201)["id"]
    form = {"knowledge_base_id": other, "files": [(io.BytesIO(answer.data), f"faqs.{ending}")]}
    taken = api.call("POST", "/api/faqs/import", 200, data=form, content_type="multipart/form-data")
    assert taken["created"] == 3
    assert told(listed(api, other)) == told(listed(api, base))


@pytest.mark.parametrize(
    ("data", "status", "field"),
    [
        (b"", 400, None),
        (b"question,reply\na,b\n", 400, None),
        (b"question,answer\na\n", 422, "items[0]"),
        (b"question,answer,priority\na,b,many\n", 422, "items[0].priority"),
        (b"question,answer,metadata\na,b,{\n", 422, "items[0].metadata"),
        (b"question,answer\n\xff,b\n", 400, None),
        (b"question,answer\n ,b\n", 422, "items[0].question"),
        (b'question,answer\n"a,b\n', 400, None),
        (b"question,answer\n", 422, "items"),
        (b"question,answer\n" + b"a,b\n" * 1001, 422, "files"),
    ],
)
def test_unreadable_files_are_refused(api: Api, base: str, data: bytes, status: int, field: str | None) -> None:
    form = {"knowledge_base_id": base, "files": [(io.BytesIO(data), "faqs.csv")]}
    error = api.call("POST", "/api/faqs/import", status, data=form, content_type="multipart/form-data")["error"]
    assert error.get("field") == field


def test_an_import_is_applied_once(api: Api, base: str) -> None:
    send = {"json": {"knowledge_base_id": base, "items": ITEMS}, "headers": {"Idempotency-Key": new_id()}}
    answers = [api.send("POST", "/api/faqs/import", **send) for _ in range(2)]
    assert answers[0].data == answers[1].data and answers[1].headers["Idempotent-Replayed"] == "true"


def test_a_knowledge_base_of_ones_own_vectors_takes_no_faqs(api: Api) -> None:
    own = api.post("/api/knowledge-bases", {"name": new_id(), "embedding_model": None, "dimension": 3}, 201)["id"]
    api.refused("POST", "/api/faqs", 409, "conflict", json={"knowledge_base_id": own, **ITEMS[0]})


def test_racing_imports_never_make_a_question_twice(api: Api, base: str) -> None:
    failures: list[int] = []

    def run(number: int) -> None:
        client = Api(api.app, api.token)
        for turn in range(4):
            items = [{**item, "answer": f"{number}.{turn}"} for item in ITEMS]
            response = client.send("POST", "/api/faqs/import", json={"knowledge_base_id": base, "items": items})
            if response.status_code not in (200, 409):
                failures.append(response.status_code)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    faqs = listed(api, base)
    assert len(faqs) == 3 and len({faq["answer"] for faq in faqs}) == 1, "each import was applied whole"
    agrees(api, base)
