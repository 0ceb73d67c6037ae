"""Documents over HTTP: upload, refuse, replace, delete, download."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app

DOCUMENTS = Path(__file__).parents[4] / "shared" / "data" / "documents"
READABLE = [
    "aristotle.txt",
    "asvs-4.0.3-en.csv",
    "asvs-5.0.0-en.docx",
    "asvs-5.0.0-en.pdf",
    "gcsfuse-semantics.md",
    "two-sheets.xlsx",
    "what-is-haystack.html",
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("documents")
    return Api(make_app(folder, f"sqlite:///{folder}/agenthub.sqlite3", AGENTHUB_SERVICES="knowledge.*,platform.authentication")).login()


@pytest.fixture
def base(api: Api, request: pytest.FixtureRequest) -> str:
    created = api.post("/api/knowledge-bases", {"name": f"{request.node.name} {new_id()}"}, 201)
    return f"/api/knowledge-bases/{created['id']}"


def upload(api: Api, base: str, *names: str, status: int, **fields: str) -> Any:
    files = [(io.BytesIO((DOCUMENTS / name).read_bytes()), name) for name in names]
    return api.call("POST", f"{base}/documents?wait=300", status, data={"files": files, **fields}, content_type="multipart/form-data")


def hits(api: Api, base: str, query: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.post(f"{base}/search", {"query": query, **more})["hits"]
    return found


def test_a_text_is_searchable_when_it_is_acknowledged(api: Api, base: str) -> None:
    document = api.post(
        f"{base}/documents", {"title": "Otters", "text": "Otters hold hands while they sleep.", "metadata": {"kind": "fact"}}, 201
    )
    assert document["generation"] == 2  # the first, empty generation is 1
    assert document["chunk_count"] == 1
    hit = hits(api, base, "which animals hold hands?")[0]
    assert (hit["document_id"], hit["text"]) == (document["id"], "Otters hold hands while they sleep.")
    assert hit["metadata"]["kind"] == "fact"
    assert hit["metadata"]["title"] == "Otters"
    assert api.get(base)["document_count"] == 1


def test_the_generation_is_answered_and_can_be_asked_for(api: Api, base: str) -> None:
    response = api.send("POST", f"{base}/documents", json={"title": "a", "text": "first text"})
    generation = int(response.headers["X-KB-Generation"])
    assert api.post(f"{base}/search", {"query": "text", "min_generation": generation})["generation"] == generation
    api.refused("POST", f"{base}/search", 409, "conflict", "min_generation", json={"query": "text", "min_generation": generation + 1})


def test_every_readable_kind_is_taken_and_the_scan_refused(api: Api, base: str) -> None:
    answer = upload(api, base, *READABLE, "scanned-no-text.pdf", status=207)
    assert [item["status"] for item in answer["items"]] == [201] * 7 + [422]
    assert answer["items"][-1]["error"]["code"] == "unsupported_document"
    assert (answer["accepted"], answer["refused"]) == (7, 1)
    # Committed in groups; from the generation that is answered on all are searchable.
    assert max(item["document"]["generation"] for item in answer["items"][:7]) == answer["generation"] == api.get(base)["generation"]
    assert len(api.get(f"{base}/documents?limit=200")["items"]) == 7
    expectations = {
        "At what age did Aristotle join the Academy of his teacher?": ("aristotle.txt", "Plato"),
        "how long does gcsfuse cache negative stat entries": ("gcsfuse-semantics.md", "negative"),
        "password length at least": ("asvs", "password"),
    }
    for question, (filename, word) in expectations.items():
        hit = hits(api, base, question)[0]
        assert hit["metadata"]["filename"].startswith(filename), (question, hit)
        assert word.lower() in hit["text"].lower(), (question, hit)
    pages = [hit["metadata"].get("page") for hit in hits(api, base, "session token", filter=by_file("asvs-5.0.0-en.pdf"))]
    assert pages and all(isinstance(page, int) for page in pages)


def by_file(name: str) -> dict[str, Any]:
    return {"field": "filename", "op": "eq", "value": name}


def test_what_can_not_be_read_leaves_nothing(api: Api, base: str) -> None:
    error = upload(api, base, "scanned-no-text.pdf", status=422)["error"]
    assert error["code"] == "unsupported_document"
    assert "text" in error["message"]
    assert api.get(f"{base}/documents")["items"] == []
    assert api.get(base)["generation"] == 1
    folder = api.app.extensions["agenthub"].knowledge.volume.root / base.rsplit("/", 1)[1]
    assert [path.parent.name for path in folder.rglob("*") if path.is_file()] == ["manifests"]


def test_the_original_comes_back_byte_for_byte(api: Api, base: str) -> None:
    document = upload(api, base, "two-sheets.xlsx", status=201)
    response = api.send("GET", f"{base}/documents/{document['id']}/original")
    assert response.data == (DOCUMENTS / "two-sheets.xlsx").read_bytes()
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_replaced_document_answers_with_its_new_content_only(api: Api, base: str) -> None:
    document = api.post(f"{base}/documents", {"title": "Notes", "text": "The meeting is on Tuesday."}, 201)
    path = f"{base}/documents/{document['id']}"
    replaced = api.call("PUT", path, 200, json={"title": "Notes", "text": "The meeting moved to Friday."})
    assert (replaced["id"], replaced["revision"], replaced["generation"]) == (document["id"], 2, 3)
    texts = [hit["text"] for hit in hits(api, base, "when is the meeting")]
    assert texts == ["The meeting moved to Friday."]
    assert api.get(base)["chunk_count"] == 1
    assert [chunk["text"] for chunk in api.get(f"{path}/chunks")["items"]] == ["The meeting moved to Friday."]


def test_a_refused_replacement_keeps_the_old_content(api: Api, base: str) -> None:
    document = api.post(f"{base}/documents", {"title": "Notes", "text": "Keep me."}, 201)
    scan = {"files": [(io.BytesIO((DOCUMENTS / "scanned-no-text.pdf").read_bytes()), "scan.pdf")]}
    path = f"{base}/documents/{document['id']}"
    api.refused("PUT", path, 422, "unsupported_document", data=scan, content_type="multipart/form-data")
    assert hits(api, base, "keep")[0]["text"] == "Keep me."
    assert api.get(path)["revision"] == 1


def test_a_deleted_document_is_found_by_nothing(api: Api, base: str) -> None:
    document = api.post(f"{base}/documents", {"title": "Secret", "text": "The code word is zebra."}, 201)
    other = api.post(f"{base}/documents", {"title": "Other", "text": "Nothing to see."}, 201)
    path = f"{base}/documents/{document['id']}"
    chunk = api.get(f"{path}/chunks")["items"][0]["id"]
    gone = api.call("DELETE", path, 200)
    assert (gone["deleted"], gone["missing"], gone["generation"]) == ([document["id"]], [], 4)
    for mode in ("semantic", "keyword", "hybrid"):
        assert document["id"] not in [hit["document_id"] for hit in hits(api, base, "zebra code word", mode=mode)]
    api.refused("GET", path, 404, "not_found")
    api.refused("GET", f"{path}/original", 404, "not_found")
    api.refused("GET", f"{base}/chunks/{chunk}", 404, "not_found")
    api.refused("DELETE", path, 404, "not_found")
    assert [d["id"] for d in api.get(f"{base}/documents")["items"]] == [other["id"]]
    statistics = api.get(base)
    assert (statistics["document_count"], statistics["chunk_count"]) == (1, 1)


def test_deleting_many_reports_what_was_missing(api: Api, base: str) -> None:
    ids = [api.post(f"{base}/documents", {"title": str(i), "text": f"text {i}"}, 201)["id"] for i in range(3)]
    missing = new_id()
    answer = api.post(f"{base}/documents/delete", {"ids": [ids[0], missing, ids[2]]})
    assert (answer["deleted"], answer["missing"]) == ([ids[0], ids[2]], [missing])
    assert api.get(base)["document_count"] == 1
    api.refused("POST", f"{base}/documents/delete", 404, "not_found", json={"ids": [missing]})


def test_a_document_of_another_knowledge_base_is_not_found(api: Api, base: str) -> None:
    other = api.post("/api/knowledge-bases", {"name": f"other {new_id()}"}, 201)["id"]
    document = api.post(f"{base}/documents", {"title": "a", "text": "b c d"}, 201)
    path = f"/api/knowledge-bases/{other}/documents/{document['id']}"
    for method in ("GET", "DELETE"):
        api.refused(method, path, 404, "not_found")
    api.refused("PUT", path, 404, "not_found", json={"title": "x", "text": "y"})
    assert api.get(f"{base}/documents/{document['id']}")["revision"] == 1


def test_a_preview_keeps_nothing(api: Api, base: str) -> None:
    preview = api.post(f"{base}/documents/preview", {"title": "a", "text": "# Head\n\nBody text."})
    assert preview["chunk_count"] == len(preview["chunks"]) == 1
    assert api.get(base)["generation"] == 1


def test_a_deleted_knowledge_base_is_gone_with_all_its_documents(api: Api, base: str) -> None:
    document = api.post(f"{base}/documents", {"title": "a", "text": "b c d"}, 201)
    name = api.get(base)["name"]
    api.call("DELETE", base, 204)
    for path in (base, f"{base}/documents", f"{base}/documents/{document['id']}", f"{base}/documents/{document['id']}/original"):
        api.refused("GET", path, 404, "not_found")
    api.refused("POST", f"{base}/search", 404, "not_found", json={"query": "b"})
    api.refused("POST", f"{base}/documents", 404, "not_found", json={"title": "a", "text": "b"})
    again = api.post("/api/knowledge-bases", {"name": name}, 201)
    assert f"/api/knowledge-bases/{again['id']}" != base


def test_names_are_unique_whatever_their_case(api: Api) -> None:
    name = f"Unique {new_id()}"
    first = api.post("/api/knowledge-bases", {"name": name}, 201)
    api.refused("POST", "/api/knowledge-bases", 409, "already_exists", "name", json={"name": name.upper()})
    second = api.post("/api/knowledge-bases", {"name": f"{name} 2"}, 201)
    api.refused("PATCH", f"/api/knowledge-bases/{second['id']}", 409, "already_exists", "name", json={"name": name})
    assert api.call("PATCH", f"/api/knowledge-bases/{first['id']}", 200, json={"description": "d"})["description"] == "d"


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("title", {"text": "a"}),
        ("text", {"title": "a"}),
        ("text", {"title": "a", "text": ""}),
        ("metadata", {"title": "a", "text": "b", "metadata": []}),
        ("generation", {"title": "a", "text": "b", "generation": 7}),
        ("text", {"title": "a", "text": "nul \x00 here"}),
    ],
)
def test_a_bad_document_is_refused_by_field(api: Api, base: str, field: str, body: dict[str, Any]) -> None:
    api.refused("POST", f"{base}/documents", 422, "invalid_input", field, json=body)
    assert api.get(base)["generation"] == 1


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\boot.ini", "/abs/olute.txt", "a\tb.txt", "ＣＯＮ.txt", "x" * 500 + ".txt"])
def test_hostile_file_names_are_only_shown(api: Api, base: str, name: str) -> None:
    data = {"files": [(io.BytesIO(b"plain words in a file"), name)]}
    document = api.call("POST", f"{base}/documents", 201, data=data, content_type="multipart/form-data")
    shown = document["filename"]
    assert "/" not in shown and "\\" not in shown and "\t" not in shown and len(shown) <= 255
    assert api.send("GET", f"{base}/documents/{document['id']}/original").data == b"plain words in a file"


def test_a_repeated_key_adds_a_document_once(api: Api, base: str) -> None:
    send = {"json": {"title": "a", "text": "only once"}, "headers": {"Idempotency-Key": new_id()}}
    first = api.send("POST", f"{base}/documents", **send)
    again = api.send("POST", f"{base}/documents", **send)
    assert first.status_code == again.status_code == 201
    assert first.data == again.data
    assert first.headers["X-KB-Generation"] == again.headers["X-KB-Generation"] == "2"
    assert api.get(base)["document_count"] == 1


def test_racing_repeats_of_one_key_add_one_document(api: Api, base: str) -> None:
    send = {"json": {"title": "a", "text": "only once"}, "headers": {"Idempotency-Key": new_id()}}
    answers = race(api, [lambda client: client.send("POST", f"{base}/documents", **send)] * 6)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert api.get(base)["document_count"] == 1


def test_racing_writers_lose_nothing(api: Api, base: str) -> None:
    def write(number: int) -> Any:
        return lambda client: client.send("POST", f"{base}/documents", json={"title": f"t{number}", "text": f"fact number {number}"})

    answers = race(api, [write(number) for number in range(8)])
    assert {answer.status_code for answer in answers} == {201}
    generations = {answer.get_json()["generation"] for answer in answers}  # uploads that waited together share one
    assert generations == set(range(2, api.get(base)["generation"] + 1))
    assert api.get(base)["chunk_count"] == 8
    found = {hit["document_id"] for hit in hits(api, base, "fact number", top_k=100)}
    assert found == {answer.get_json()["id"] for answer in answers}


def race(api: Api, calls: list[Any]) -> list[Any]:
    answers: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index: int) -> None:
        client = Api(api.app, api.token)
        barrier.wait()
        answers[index] = calls[index](client)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
