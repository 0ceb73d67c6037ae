"""Searches whose hits are chosen, surrounded, grouped and highlighted; and that those who don't ask are not concerned."""

from __future__ import annotations

from typing import Any

import pytest

from agenthub.core.ids import new_id
from tests.api import Api, make_app

SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,platform.authentication", "AGENTHUB_MAINTENANCE": "off"}
LAMP = "The keeper lights the lamp at dusk. Nobody else may do it. The stairs have two hundred steps."
LONG = "\n\n".join(
    f"Part {n}. " + f"The harbour has pier number {n}, where boats of kind {n} are moored for the night. " * 9 for n in range(6)
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(make_app(tmp_path_factory.mktemp("refined"), **SERVICES)).login()


@pytest.fixture(scope="module")
def base(api: Api) -> str:
    key: str = api.post("/api/knowledge-bases", {"name": new_id()}, 201)["id"]
    for title, text in {"Lamp": LAMP, "Copy": LAMP + " Indeed.", "Boats": LONG}.items():
        api.post(f"/api/knowledge-bases/{key}/documents", {"title": title, "text": text}, 201)
    api.post("/api/faqs", {"knowledge_base_id": key, "question": "Who lights the lamp?", "answer": "The keeper does."}, 201)
    return key


def search(api: Api, base: str, query: str | None = "who lights the lamp", status: int = 200, **more: Any) -> Any:
    return api.post(f"/api/knowledge-bases/{base}/search", {"query": query, **more} if query else more, status)


def test_neighbours_come_along(api: Api, base: str) -> None:
    plain = search(api, base, "pier number 3", top_k=1)["hits"][0]
    hit = search(api, base, "pier number 3", top_k=1, neighbours=1)["hits"][0]
    assert {name: hit[name] for name in plain} == plain
    chunks = api.get(f"/api/knowledge-bases/{base}/documents/{hit['document_id']}/chunks")["items"]
    place = [chunk["id"] for chunk in chunks].index(hit["chunk_id"])
    assert [one["chunk_id"] for one in hit["before"]] == [chunk["id"] for chunk in chunks[max(0, place - 1) : place]]
    assert [one["text"] for one in hit["after"]] == [chunk["text"] for chunk in chunks[place + 1 : place + 2]]
    assert hit["before"] or hit["after"]


def test_hits_of_a_document_are_bounded_and_grouped(api: Api, base: str) -> None:
    answer = search(api, base, "pier for boats", per_document=1, group=True, top_k=3)
    ids = [hit["document_id"] for hit in answer["hits"]]
    assert len(ids) == len(set(ids)) == 3, "room is filled by other documents"
    assert [group["document_id"] for group in answer["groups"]] == ids
    many = search(api, base, "pier for boats", group=True, top_k=10)
    assert sum(len(group["chunk_ids"]) for group in many["groups"]) == len(many["hits"])
    assert len(many["groups"][0]["chunk_ids"]) > 1


def test_diversity_prefers_what_was_not_said_yet(api: Api, base: str) -> None:
    asked: dict[str, Any] = {"top_k": 2, "mode": "semantic", "filter": {"field": "kind", "op": "ne", "value": "faq"}}
    plain = search(api, base, "the keeper lights the lamp at dusk, nobody else", **asked)["hits"]
    assert {hit["text"] for hit in plain} == {LAMP, LAMP + " Indeed."}
    diverse = search(api, base, "the keeper lights the lamp at dusk, nobody else", diversity=0.6, **asked)["hits"]
    assert diverse[0]["chunk_id"] == plain[0]["chunk_id"] and diverse[1]["text"] not in {LAMP, LAMP + " Indeed."}
    assert search(api, base, "the lamp", top_k=5, diversity=0)["hits"] == search(api, base, "the lamp", top_k=5)["hits"]


def test_words_and_the_best_sentence_are_highlighted(api: Api, base: str) -> None:
    hit = next(h for h in search(api, base, "lighting lamps", highlight=True)["hits"] if h["text"] == LAMP)
    assert [LAMP[start:end] for start, end in hit["highlights"]["words"]] == ["lights", "lamp"]
    start, end = hit["highlights"]["passage"]
    assert LAMP[start:end] == "The keeper lights the lamp at dusk."
    distant = next(h for h in search(api, base, "staircase", highlight=True, mode="semantic")["hits"] if h["text"] == LAMP)
    start, end = distant["highlights"]["passage"]
    assert distant["highlights"]["words"] == [] and LAMP[start:end] == "The stairs have two hundred steps.", (
        "by meaning where no word occurs"
    )


def test_the_very_question_of_a_faq_goes_first(api: Api, base: str) -> None:
    hits = search(api, base, "WHO lights the lamp", mode="keyword")["hits"]
    assert hits[0]["exact"] and hits[0]["text"] == "The keeper does." and not any(hit.get("exact") for hit in hits[1:])
    assert hits[0]["score"] >= hits[1]["score"] and len({hit["chunk_id"] for hit in hits}) == len(hits)
    without = {"field": "kind", "op": "ne", "value": "faq"}
    assert not any(hit.get("exact") for hit in search(api, base, filter=without)["hits"])
    assert not any(hit.get("exact") for hit in search(api, base, generation=2)["hits"]), "it was not asked yet"
    off = search(api, base, "WHO lights the lamp", mode="keyword", exact_faqs=False)["hits"]
    assert not any(hit.get("exact") for hit in off)
    many = search(api, base, None, queries=["boats"] * 30 + ["who lights the lamp"], mode="keyword")["results"]
    assert len(many) == 31
    batch = search(api, base, None, queries=["who lights the lamp?", "boats"])["results"]
    assert [result["hits"][0].get("exact") for result in batch] == [True, None]


def test_what_can_not_be_refined_is_refused(api: Api, base: str) -> None:
    path = f"/api/knowledge-bases/{base}/search"
    vector = [1.0] + [0.0] * 383
    api.refused("POST", path, 422, "invalid_input", "highlight", json={"vector": vector, "highlight": True})
    api.refused("POST", path, 422, "invalid_input", "queries", json={"queries": ["a"] * 21, "group": True})
    api.refused("POST", path, 409, "conflict", "rerank", json={"query": "a", "rerank": True})
    assert api.post(path, {"vector": vector, "group": True, "neighbours": 1})["groups"]
