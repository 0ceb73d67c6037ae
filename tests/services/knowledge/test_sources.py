"""One document of a content, one of a source; what a client has to send; how a document is to be cut."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from agenthub.core.ids import new_id
from tests.api import Api, make_app

URLS = ["sqlite", "postgresql"]


@pytest.fixture(scope="module", params=URLS)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("sources")
    url = f"sqlite:///{folder}/agenthub.sqlite3" if request.param == "sqlite" else request.getfixturevalue("migrated_postgresql")
    return Api(make_app(folder, url, AGENTHUB_SERVICES="knowledge.*,platform.authentication")).login()


@pytest.fixture
def base(api: Api) -> str:
    return f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'sources {new_id()}'}, 201)['id']}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def send(api: Api, base: str, files: dict[str, str]) -> TestResponse:
    """Upload texts as files under their sources."""
    parts = [(io.BytesIO(text.encode()), source.rpartition("/")[2]) for source, text in files.items()]
    data = {"files": parts, "sources": json.dumps(list(files))}
    return api.send("POST", f"{base}/documents", data=data, content_type="multipart/form-data")


def upload(api: Api, base: str, files: dict[str, str], *, status: int = 207) -> Any:
    """As `send`, with this answer."""
    response = send(api, base, files)
    assert response.status_code == status, response.get_data(as_text=True)
    return response.get_json()


def put(api: Api, base: str, source: str, text: str, status: int) -> Any:
    return upload(api, base, {source: text}, status=status)


def sync(api: Api, base: str, files: dict[str, str], **within: Any) -> tuple[dict[str, str], list[str]]:
    """The state of each file, and the sources that are gone."""
    items = [{"source": source, "sha256": sha256(text)} for source, text in files.items()]
    answer = api.post(f"{base}/documents/sync", {"items": items, "gone_within": within or None})
    return {item["source"]: item["state"] for item in answer["items"]}, [one["source"] for one in answer["gone"]]


def documents(api: Api, base: str) -> dict[str, str]:
    """Source and content of every document."""
    listed = api.get(f"{base}/documents?limit=200")["items"]
    return {one["source"] or one["title"]: api.get(f"{base}/documents/{one['id']}/original").decode() for one in listed}


def test_the_same_text_is_not_taken_twice(api: Api, base: str) -> None:
    body = {"title": "Otters", "text": "Otters hold hands while they sleep."}
    first = api.post(f"{base}/documents", body, 201)
    again = api.post(f"{base}/documents", body, 200)
    assert again == first
    assert api.get(base)["generation"] == first["generation"]
    for other in ({**body, "title": "Sea otters"}, {**body, "metadata": {"lang": "en"}}, {**body, "chunking": {"strategy": "none"}}):
        assert api.post(f"{base}/documents", other, 201)["id"] != first["id"]
    api.call("DELETE", f"{base}/documents/{first['id']}", 200)
    assert api.post(f"{base}/documents", body, 201)["id"] != first["id"]


def test_identical_uploads_side_by_side_make_one_document(api: Api, base: str) -> None:
    """open-webui #27987 ends with none or two."""
    answers: list[int] = []

    def send() -> None:
        body = {"title": "Same", "text": "The same text, sent by many at once."}
        answers.append(Api(api.app, api.token).send("POST", f"{base}/documents", json=body).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 7 + [201]
    assert len(api.get(f"{base}/documents")["items"]) == 1
    assert api.get(base)["document_count"] == 1
    assert len(api.post(f"{base}/search", {"query": "the same text", "top_k": 10})["hits"]) == 1


def test_a_new_content_replaces_the_document_of_its_source(api: Api, base: str) -> None:
    first = put(api, base, "docs/a.md", "# First\n\nThe first text.", 201)
    again = put(api, base, "docs/a.md", "# First\n\nThe first text.", 200)
    second = put(api, base, "docs/a.md", "# Second\n\nThe second text.", 200)
    assert again == first
    assert (second["id"], second["revision"], second["source"]) == (first["id"], 2, "docs/a.md")
    found = api.post(f"{base}/search", {"query": "text", "top_k": 10})["hits"]
    assert [(hit["metadata"]["title"], hit["metadata"]["source"]) for hit in found] == [("Second", "docs/a.md")]


def test_a_folder_with_copies_has_one_document_of_each_content(api: Api, base: str) -> None:
    files = {"a.txt": "one text", "b.txt": "one text", "c.txt": "another text"}
    answer = upload(api, base, files)
    assert [item["status"] for item in answer["items"]] == [201, 200, 201]
    assert answer["items"][0]["document"]["id"] == answer["items"][1]["document"]["id"]
    assert sync(api, base, files) == (dict.fromkeys(files, "unchanged"), [])


def test_a_source_whose_content_moves_elsewhere_leaves_nothing_stale(api: Api, base: str) -> None:
    upload(api, base, {"a.txt": "text one", "b.txt": "text two"})
    assert sync(api, base, {"a.txt": "text two", "b.txt": "text two"})[0] == {"a.txt": "needed", "b.txt": "unchanged"}
    put(api, base, "a.txt", "text two", 200)
    assert documents(api, base) == {"b.txt": "text two"}
    assert sync(api, base, {"a.txt": "text two", "b.txt": "text two"})[0] == {"a.txt": "unchanged", "b.txt": "unchanged"}
    assert [hit["text"] for hit in api.post(f"{base}/search", {"query": "text", "top_k": 10})["hits"]] == ["text two"]


def test_exchanged_contents_come_right_when_asked_again(api: Api, base: str) -> None:
    files = {"a.txt": "text one", "b.txt": "text two"}
    upload(api, base, files)
    swapped = {"a.txt": "text two", "b.txt": "text one"}
    for _ in range(3):
        needed = {source: swapped[source] for source, state in sync(api, base, swapped)[0].items() if state == "needed"}
        if not needed:
            break
        send(api, base, needed)
    assert sorted(documents(api, base).values()) == ["text one", "text two"]


def test_sync_tells_needed_unchanged_and_gone(api: Api, base: str) -> None:
    upload(api, base, {f"docs/{name}.txt": f"text {name}" for name in "abcd"} | {"other/x.txt": "text x"})
    files = {"docs/a.txt": "text a", "docs/b.txt": "changed", "docs/e.txt": "text e"}
    states, gone = sync(api, base, files, prefix="docs/")
    assert states == {"docs/a.txt": "unchanged", "docs/b.txt": "needed", "docs/e.txt": "needed"}
    assert sorted(gone) == ["docs/c.txt", "docs/d.txt"]
    assert sync(api, base, {"docs/a.txt": "text a"}, prefix="docs/", through="docs/b.txt")[1] == ["docs/b.txt"]
    assert sorted(sync(api, base, {}, prefix="docs/", after="docs/b.txt")[1]) == ["docs/c.txt", "docs/d.txt"]
    assert len(sync(api, base, {}, prefix="")[1]) == 5
    twice = [{"source": "a", "sha256": "0" * 64}] * 2
    api.refused("POST", f"{base}/documents/sync", 422, "invalid_input", "items[1].source", json={"items": twice})


def test_a_document_that_lost_chunks_is_needed_again(api: Api, base: str) -> None:
    document = put(api, base, "a.txt", "a text", 201)
    chunk = api.get(f"{base}/documents/{document['id']}/chunks")["items"][0]
    api.post(f"{base}/chunks/delete", {"ids": [chunk["id"]]})
    assert sync(api, base, {"a.txt": "a text"})[0] == {"a.txt": "needed"}
    assert put(api, base, "a.txt", "a text", 200)["chunk_count"] == 1
    assert sync(api, base, {"a.txt": "a text"})[0] == {"a.txt": "unchanged"}


def test_a_document_put_by_its_id_may_have_the_content_of_another(api: Api, base: str) -> None:
    one = api.post(f"{base}/documents", {"title": "t", "text": "text one"}, 201)
    two = api.post(f"{base}/documents", {"title": "t", "text": "text two", "source": "two"}, 201)
    replaced = api.call("PUT", f"{base}/documents/{two['id']}", 200, json={"title": "t", "text": "text one"})
    assert (replaced["id"], replaced["revision"], replaced["source"]) == (two["id"], 2, "two")
    assert api.post(f"{base}/documents", {"title": "t", "text": "text one"}, 200)["id"] == one["id"]


def test_going_back_brings_exchanged_contents_and_sources_back(api: Api, base: str) -> None:
    a = put(api, base, "a.txt", "text one", 201)
    b = put(api, base, "b.txt", "text two", 201)
    wanted = documents(api, base)
    api.call("DELETE", f"{base}/documents/{a['id']}", 200)
    put(api, base, "b.txt", "text one", 200)
    put(api, base, "a.txt", "text two", 201)
    assert documents(api, base) == {"b.txt": "text one", "a.txt": "text two"}
    api.post(f"{base}/restore", {"generation": b["generation"]})
    assert documents(api, base) == wanted
    assert sync(api, base, wanted)[0] == {"a.txt": "unchanged", "b.txt": "unchanged"}


def test_a_document_is_cut_as_its_upload_says(api: Api, base: str) -> None:
    text = "One short sentence here. " * 40
    whole = api.post(f"{base}/documents", {"title": "t", "text": text, "chunking": {"strategy": "none"}}, 201)
    fixed = {"strategy": "fixed", "max_characters": 100, "overlap_characters": 0}
    pieces = api.post(f"{base}/documents", {"title": "t", "text": text, "chunking": fixed}, 201)
    assert (whole["chunk_count"], pieces["chunk_count"]) == (1, 10)
    seen = api.post(f"{base}/documents/preview", {"title": "t", "text": text, "chunking": fixed})
    assert seen["chunk_count"] == 10
    assert api.post(f"{base}/documents/preview", {"title": "t", "text": text})["chunk_count"] == 1
    bad = {"strategy": "fixed", "max_characters": 100, "overlap_characters": 60}
    api.refused(
        "POST", f"{base}/documents", 422, "invalid_input", "chunking.overlap_characters", json={"title": "t", "text": "x", "chunking": bad}
    )


def test_the_language_of_a_text_is_found(api: Api, base: str) -> None:
    german = "Die Besprechung wurde auf Freitag verschoben, weil der Raum im zweiten Stock diese Woche gestrichen wird."
    assert api.post(f"{base}/documents", {"title": "t", "text": german}, 201)["language"] == "de"
    assert api.post(f"{base}/search", {"query": "Freitag"})["hits"][0]["metadata"]["language"] == "de"


def test_sources_go_with_their_files(api: Api, base: str) -> None:
    for sources in ('["a"]', '["a", ""]', '["a", "b\\u0000"]', "[1, 2]", '{"a": 1}', "a"):
        files = [(io.BytesIO(b"x"), "x.txt"), (io.BytesIO(b"y"), "y.txt")]
        data = {"files": files, "sources": sources}
        api.refused("POST", f"{base}/documents", 422, "invalid_input", "sources", data=data, content_type="multipart/form-data")
    too_long = "é" * 513
    api.refused("POST", f"{base}/documents", 422, "invalid_input", "source", json={"title": "t", "text": "x", "source": too_long})


def test_bundles_carry_sources(api: Api, base: str) -> None:
    put(api, base, "docs/a.md", "A text.", 201)
    bundle = api.get(f"{base}/export")
    name = f"copy-{new_id()}"
    copy = api.call("POST", f"/api/knowledge-bases/import?name={name}", 201, data=bundle, content_type="application/x-tar")
    there = f"/api/knowledge-bases/{copy['knowledge_base']['id']}"
    assert sync(api, there, {"docs/a.md": "A text."})[0] == {"docs/a.md": "unchanged"}
    put(api, there, "docs/a.md", "A text.", 200)
