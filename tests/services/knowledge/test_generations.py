"""Generations over HTTP: the list, searches as of one, differences, restore, undo, named snapshots, retention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.core.ids import new_id
from agenthub.repositories.knowledge.restoring import Restores
from tests.api import Api, in_milvus, make_app


@pytest.fixture(scope="module", params=["memory", "milvus", "sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("generations")
    urls = {"memory": "memory://", "milvus": "memory://", "sqlite": f"sqlite:///{folder}/agenthub.sqlite3"}
    url = urls.get(request.param) or request.getfixturevalue("migrated_postgresql")
    options = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_MAINTENANCE": "off"}
    return Api(make_app(folder, url, **options, **(in_milvus() if request.param == "milvus" else {}))).login()


@pytest.fixture
def base(api: Api) -> str:
    return f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': f'kb {new_id()}'}, 201)['id']}"


@pytest.fixture
def history(api: Api, base: str) -> tuple[str, str]:
    """Generation 2 adds a walrus, 3 a zebra, 4 replaces the walrus by a flamingo, 5 deletes the zebra."""
    first = api.post(f"{base}/documents", {"title": "one", "text": "walrus"}, 201)["id"]
    second = api.post(f"{base}/documents", {"title": "two", "text": "zebra"}, 201)["id"]
    api.call("PUT", f"{base}/documents/{first}", 200, json={"title": "one", "text": "flamingo"})
    api.call("DELETE", f"{base}/documents/{second}", 200)
    return first, second


WORDS = {1: [], 2: ["walrus"], 3: ["walrus", "zebra"], 4: ["flamingo", "zebra"], 5: ["flamingo"]}


def words(api: Api, base: str, **more: Any) -> list[str]:
    answer = api.post(f"{base}/search", {"query": "animal", "mode": "semantic", "top_k": 100, **more})
    assert answer["generation"] == more.get("generation", answer["generation"])
    return sorted(hit["text"] for hit in answer["hits"])


def titles(api: Api, base: str, query: str = "") -> list[str]:
    return sorted(item["title"] for item in api.get(f"{base}/documents{query}")["items"])


def test_every_generation_is_listed_with_who_did_what(api: Api, base: str, history: tuple[str, str]) -> None:
    pages = [api.get(f"{base}/generations?limit=3")]
    pages.append(api.get(f"{base}/generations?limit=3&cursor={pages[0]['next_cursor']}"))
    listed = pages[0]["items"] + pages[1]["items"]
    assert [(item["generation"], item["kind"]) for item in listed] == [(5, "delete"), (4, "replace"), (3, "add"), (2, "add"), (1, "create")]
    assert [item["chunk_count"] for item in listed] == [1, 2, 2, 1, 0]
    assert [item["documents_delta"] for item in listed] == [-1, 0, 1, 1, 0]
    assert {item["actor_id"] for item in listed} == {api.get("/api/auth/me")["id"]}
    assert all(item["retained"] for item in listed) and pages[1]["next_cursor"] is None
    one = api.get(f"{base}/generations/3")
    assert (one["generation"], one["current"], one["document_count"], len(one["changes"])) == (3, False, 2, 1)
    assert api.get(f"{base}/generations/5")["current"] is True
    api.refused("GET", f"{base}/generations/6", 404, "not_found")


def test_searches_and_lists_as_of_a_generation_see_what_was_there(api: Api, base: str, history: tuple[str, str]) -> None:
    for generation, expected in WORDS.items():
        assert words(api, base, generation=generation) == expected
        assert len(titles(api, base, f"?generation={generation}")) == len(expected)
    assert api.get(f"{base}/documents?generation=3&limit=1")["items"][0]["title"] == "two"
    page = api.get(f"{base}/documents?generation=3&limit=1")
    assert titles(api, base, f"?generation=3&limit=1&cursor={page['next_cursor']}") == ["one"]
    before = api.get(f"{base}/documents?generation=3")["items"][1]
    assert api.get(f"{base}/documents?generation=3&sha256={before['sha256']}")["items"] == [before]
    assert api.get(f"{base}/documents?generation=4&sha256={before['sha256']}")["items"] == []


def test_a_generation_that_is_not_there_is_refused(api: Api, base: str, history: tuple[str, str]) -> None:
    api.refused("POST", f"{base}/search", 404, "not_found", "generation", json={"query": "a", "generation": 6})
    api.refused("POST", f"{base}/search", 422, "invalid_input", "generation", json={"query": "a", "generation": 0})
    api.refused("POST", f"{base}/search", 422, "invalid_input", "min_generation", json={"query": "a", "generation": 2, "min_generation": 1})
    api.refused("GET", f"{base}/documents?generation=6", 404, "not_found", "generation")
    api.refused("POST", f"{base}/restore", 404, "not_found", "generation", json={"generation": 6})
    api.refused("POST", f"{base}/restore", 409, "conflict", "generation", json={"generation": 5})


def test_two_generations_are_compared_in_both_directions(api: Api, base: str, history: tuple[str, str]) -> None:
    first, second = history
    there, back = api.get(f"{base}/generations/2/diff/4"), api.get(f"{base}/generations/4/diff/2")
    assert [item["id"] for item in there["added"]] == [item["id"] for item in back["removed"]] == [second]
    assert [item["id"] for item in there["replaced"]] == [item["id"] for item in back["replaced"]] == [first]
    assert (there["first_chunk_count"], there["last_chunk_count"]) == (1, 2)
    assert (there["added_count"], there["removed_count"], there["replaced_count"]) == (1, 0, 1)
    assert api.get(f"{base}/generations/3/diff/3")["replaced_count"] == 0
    assert api.get(f"{base}/generations/1/diff/5")["added_count"] == 1


@pytest.mark.parametrize("generation", [1, 2, 3, 4])
def test_a_restored_generation_is_back_in_a_new_one(api: Api, base: str, history: tuple[str, str], generation: int) -> None:
    before = api.get(f"{base}/documents?generation={generation}")["items"]
    restored = api.post(f"{base}/restore", {"generation": generation})
    assert (restored["generation"], restored["restored_generation"]) == (6, generation)
    assert words(api, base) == WORDS[generation]
    row = api.get(base)
    assert (row["chunk_count"], row["document_count"], row["generation"]) == (len(WORDS[generation]), len(WORDS[generation]), 6)
    now = api.get(f"{base}/documents")["items"]
    assert [(d["id"], d["title"], d["sha256"]) for d in now] == [(d["id"], d["title"], d["sha256"]) for d in before]
    for document in now:
        assert api.send("GET", f"{base}/documents/{document['id']}/original").data.decode() in WORDS[generation]
        assert len(api.get(f"{base}/documents/{document['id']}/chunks")["items"]) == 1
    difference = api.get(f"{base}/generations/{generation}/diff/6")
    assert difference["added_count"] == difference["removed_count"] == difference["replaced_count"] == 0
    for earlier, expected in WORDS.items():
        assert words(api, base, generation=earlier) == expected


def test_what_is_restored_can_be_written_on(api: Api, base: str, history: tuple[str, str]) -> None:
    first, second = history
    api.post(f"{base}/restore", {"generation": 3})
    api.call("DELETE", f"{base}/documents/{first}", 200)
    api.call("PUT", f"{base}/documents/{second}", 200, json={"title": "two", "text": "otter"})
    assert words(api, base) == ["otter"]
    assert words(api, base, generation=6) == ["walrus", "zebra"]
    api.post(f"{base}/restore", {"generation": 6})
    assert words(api, base) == ["walrus", "zebra"]
    api.post(f"{base}/restore", {"generation": 8})
    assert words(api, base) == ["otter"]
    assert titles(api, base) == ["two"]


def test_undo_takes_the_newest_change_back_and_undoing_that_is_a_redo(api: Api, base: str, history: tuple[str, str]) -> None:
    assert api.post(f"{base}/undo")["restored_generation"] == 4
    assert words(api, base) == WORDS[4]
    assert api.post(f"{base}/undo")["generation"] == 7
    assert words(api, base) == WORDS[5]
    empty = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': new_id()}, 201)['id']}"
    api.refused("POST", f"{empty}/undo", 409, "conflict")


def test_chunks_of_ones_own_come_back_too(api: Api, base: str) -> None:
    document = api.post(f"{base}/documents", {"title": "d", "text": "otter"}, 201)["id"]
    chunk = api.get(f"{base}/documents/{document}/chunks")["items"][0]["id"]
    api.post(f"{base}/chunks", {"items": [{"id": "a", "text": "walrus"}, {"id": "b", "text": "zebra"}]})
    api.post(f"{base}/chunks", {"items": [{"id": "a", "text": "flamingo"}]})
    api.post(f"{base}/chunks/delete", {"ids": ["b", chunk]})
    assert (words(api, base), api.get(f"{base}/documents/{document}")["chunk_count"]) == (["flamingo"], 0)
    api.post(f"{base}/restore", {"generation": 3})
    assert words(api, base) == ["otter", "walrus", "zebra"]
    assert api.get(f"{base}/documents/{document}")["chunk_count"] == 1
    assert api.get(base)["chunk_count"] == 3
    api.post(f"{base}/restore", {"generation": 4})
    assert words(api, base) == ["flamingo", "otter", "zebra"]


LIMIT = "agenthub.repositories.knowledge.restoring.MAX_DOCUMENTS"


def emptied(api: Api, base: str) -> str:
    """Four documents come and go, two with each delete; the digest of generation 5, which has them all."""
    ids = [api.post(f"{base}/documents", {"title": f"{n}", "text": f"animal {n}"}, 201)["id"] for n in range(4)]
    api.post(f"{base}/documents/delete", {"ids": ids[:2]})
    api.post(f"{base}/documents/delete", {"ids": ids[2:]})
    return str(api.get(f"{base}/generations/5/content")["content_sha256"])


def test_a_restore_of_much_goes_back_in_steps(api: Api, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = emptied(api, base)
    monkeypatch.setattr(LIMIT, 3)
    restored = api.post(f"{base}/restore", {"generation": 5})
    assert restored == {"generation": 9, "restored_generation": 5, "documents_changed": 4, "document_count": 4, "chunk_count": 4}
    listed = api.get(f"{base}/generations?limit=2")["items"]
    assert [(one["kind"], one["details"]["restored_generation"]) for one in listed] == [("restore", 5), ("restore", 6)]
    assert api.get(f"{base}/generations/9/content")["content_sha256"] == wanted
    assert api.get(f"{base}/generations/8/content")["document_count"] == 2
    assert api.get(f"{base}/generations/7/content")["document_count"] == 0
    assert api.post(f"{base}/restore", {"generation": 7})["documents_changed"] == 4
    assert titles(api, base) == []


def test_a_restore_that_broke_off_goes_on_from_there(api: Api, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, headers = emptied(api, base), {"Idempotency-Key": new_id()}
    monkeypatch.setattr(LIMIT, 3)
    plain: Any = Restores._publish

    def killed(self: Restores, base: Any, generation: int, *arguments: Any) -> Any:
        if generation == 5:
            raise StorageUnavailable("the database is away")
        return plain(self, base, generation, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Restores, "_publish", killed)
        api.refused("POST", f"{base}/restore", 503, "storage_unavailable", json={"generation": 5}, headers=headers)
    assert len(titles(api, base)) == 2
    restored = api.call("POST", f"{base}/restore", 200, json={"generation": 5}, headers=headers)
    assert (restored["generation"], restored["documents_changed"]) == (9, 2)
    assert api.get(f"{base}/generations/9/content")["content_sha256"] == wanted


def test_a_restore_of_too_much_is_refused_whole_and_comes_back_by_a_bundle(api: Api, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One generation changed more than a commit can: the answer says what does it, and nothing has moved."""
    wanted = emptied(api, base)
    monkeypatch.setattr(LIMIT, 1)
    after = api.get(base)
    refused = api.refused("POST", f"{base}/restore", 409, "conflict", json={"generation": 5})
    assert "export that generation and import it" in refused["message"]
    assert api.get(base) == after and titles(api, base) == []
    bundle = api.get(f"{base}/export?generation=5")
    taken = api.call("POST", f"/api/knowledge-bases/import?name={new_id()}", 201, data=bundle, content_type="application/x-tar")
    assert taken["content_sha256"] == wanted


def test_a_restore_is_applied_once(api: Api, base: str, history: tuple[str, str]) -> None:
    send = {"json": {"generation": 2}, "headers": {"Idempotency-Key": new_id()}}
    answers = [api.send("POST", f"{base}/restore", **send) for _ in range(2)]
    assert answers[0].data == answers[1].data and answers[1].headers["Idempotent-Replayed"] == "true"
    assert answers[0].headers["X-KB-Generation"] == "6"
    assert api.get(base)["generation"] == 6


def test_old_generations_go_and_named_ones_stay(api: Api, base: str, history: tuple[str, str]) -> None:
    snapshot = api.post(f"{base}/snapshots", {"name": "The walrus", "generation": 2}, 201)
    assert (snapshot["generation"], snapshot["chunk_count"]) == (2, 1)
    api.refused("POST", f"{base}/snapshots", 409, "already_exists", "name", json={"name": "the  WALRUS"})
    changed = api.call("PATCH", base, 200, json={"retained_generations": 1, "retained_seconds": 0})
    assert (changed["retained_generations"], changed["retained_seconds"]) == (1, 0)
    assert [item["retained"] for item in api.get(f"{base}/generations")["items"]] == [True, True, False, True, False]
    assert words(api, base, generation=2) == ["walrus"]
    assert words(api, base, generation=4) == WORDS[4]  # the one before the current one is always kept
    for call in (("POST", "/search", {"query": "a", "generation": 3}), ("POST", "/restore", {"generation": 3})):
        api.refused(call[0], base + call[1], 410, "not_retained", "generation", json=call[2])
    api.refused("GET", f"{base}/documents?generation=3", 410, "not_retained", "generation")
    api.refused("GET", f"{base}/generations/3/diff/5", 410, "not_retained", "generation")
    assert api.get(f"{base}/snapshots")["items"] == [api.get(f"{base}/snapshots/{snapshot['id']}")] == [snapshot]
    api.call("DELETE", f"{base}/snapshots/{snapshot['id']}", 204)
    api.refused("POST", f"{base}/search", 410, "not_retained", "generation", json={"query": "a", "generation": 2})
    api.refused("GET", f"{base}/snapshots/{snapshot['id']}", 404, "not_found")


def test_a_named_snapshot_can_be_restored(api: Api, base: str, history: tuple[str, str]) -> None:
    api.post(f"{base}/snapshots", {"name": "before", "generation": 3}, 201)
    current = api.post(f"{base}/snapshots", {"name": "now"}, 201)
    assert current["generation"] == 5
    api.call("PATCH", base, 200, json={"retained_generations": 1, "retained_seconds": 0})
    assert api.post(f"{base}/restore", {"generation": 3})["documents_changed"] == 2
    assert words(api, base) == WORDS[3]
