"""Searches and client-made chunks over HTTP."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agenthub.core.ids import new_id
from tests.api import Api, in_milvus, make_app

FACTS = [
    ("lang-en", "The Eiffel Tower stands in Paris.", {"lang": "en", "year": 1889, "tags": ["tower", "france"]}),
    ("lang-fr", "La tour Eiffel se trouve à Paris.", {"lang": "fr", "year": 1889}),
    ("zebra", "Zebras have black and white stripes.", {"lang": "en", "year": 2001, "tags": ["animal"]}),
    ("python", "Python is a programming language with dynamic typing.", {"lang": "en", "year": 1991}),
    ("bread", "Knead the dough and let the bread rise.", {"lang": "en"}),
]


@pytest.fixture(scope="module", params=["volume", "milvus"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder: Path = tmp_path_factory.mktemp("search")
    where = in_milvus() if request.param == "milvus" else {}
    return Api(make_app(folder, AGENTHUB_SERVICES="knowledge.*,platform.authentication", **where)).login()


@pytest.fixture(scope="module")
def facts(api: Api) -> str:
    base = f"/api/knowledge-bases/{api.post('/api/knowledge-bases', {'name': 'facts'}, 201)['id']}"
    for key, text, metadata in FACTS:  # a commit each: several segments
        api.post(f"{base}/chunks", {"items": [{"id": key, "text": text, "metadata": metadata}]})
    return base


@pytest.fixture
def own(api: Api) -> str:
    created = api.post("/api/knowledge-bases", {"name": f"own {new_id()}", "embedding_model": None, "dimension": 4}, 201)
    return f"/api/knowledge-bases/{created['id']}"


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["chunk_id"] for hit in answer["hits"]]


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
def test_each_mode_finds_what_is_meant(api: Api, facts: str, mode: str) -> None:
    answer = api.post(f"{facts}/search", {"query": "striped zebras", "mode": mode})
    assert answer["mode"] == mode
    assert ids(answer)[0] == "zebra"
    assert set(answer["hits"][0]) == {"chunk_id", "document_id", "score", "text", "metadata"}


def test_hybrid_is_the_default_and_scores_are_between_0_and_1(api: Api, facts: str) -> None:
    answer = api.post(f"{facts}/search", {"query": "programming in Python", "include": ["scores"]})
    assert answer["mode"] == "hybrid"
    assert ids(answer)[0] == "python"
    assert "text" not in answer["hits"][0]
    assert {"semantic_score", "keyword_score"} <= set(answer["hits"][0])
    assert all(0 <= hit["score"] <= 1 for hit in answer["hits"])


def test_top_k_counts_and_never_falls_short(api: Api, facts: str) -> None:
    for top_k in (1, 3, 5, 100):
        answer = api.post(f"{facts}/search", {"query": "tower", "top_k": top_k, "mode": "semantic"})
        assert len(answer["hits"]) == min(top_k, len(FACTS))
        scores = [hit["score"] for hit in answer["hits"]]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"field": "lang", "op": "eq", "value": "fr"}, {"lang-fr"}),
        ({"field": "lang", "op": "ne", "value": "en"}, {"lang-fr"}),
        ({"field": "year", "op": "lt", "value": 1991}, {"lang-en", "lang-fr"}),
        ({"field": "year", "op": "gte", "value": 1991}, {"python", "zebra"}),
        ({"field": "year", "op": "exists", "value": False}, {"bread"}),
        ({"field": "tags", "op": "contains", "value": "animal"}, {"zebra"}),
        ({"field": "lang", "op": "in", "value": ["fr", "de"]}, {"lang-fr"}),
        ({"not": {"field": "lang", "op": "eq", "value": "en"}}, {"lang-fr"}),
        (
            {
                "and": [
                    {"field": "lang", "op": "eq", "value": "en"},
                    {"or": [{"field": "year", "op": "gt", "value": 2000}, {"field": "year", "op": "lt", "value": 1900}]},
                ]
            },
            {"lang-en", "zebra"},
        ),
    ],
)
@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
def test_filters_choose_before_the_top_k(api: Api, facts: str, mode: str, tree: dict[str, Any], expected: set[str]) -> None:
    answer = api.post(f"{facts}/search", {"query": "anything at all", "mode": mode, "filter": tree, "top_k": 10})
    assert set(ids(answer)) == expected


def test_a_minimum_score_cuts_off(api: Api, facts: str) -> None:
    everything = api.post(f"{facts}/search", {"query": "Eiffel Tower", "mode": "semantic"})["hits"]
    bound = everything[1]["score"]
    cut = api.post(f"{facts}/search", {"query": "Eiffel Tower", "mode": "semantic", "min_score": bound})["hits"]
    assert cut == everything[:2]


def test_a_batch_answers_like_its_single_queries(api: Api, facts: str) -> None:
    queries = ["zebra", "bread dough", "tower"]
    batch = api.post(f"{facts}/search", {"queries": queries, "top_k": 3})
    assert "hits" not in batch
    for query, result in zip(queries, batch["results"], strict=True):
        single = api.post(f"{facts}/search", {"query": query, "top_k": 3})
        assert [h["chunk_id"] for h in result["hits"]] == ids(single)
        assert [h["score"] for h in result["hits"]] == pytest.approx([h["score"] for h in single["hits"]], abs=1e-5)


@pytest.mark.parametrize(
    ("status", "code", "field", "body"),
    [
        (422, "invalid_input", "query", {}),
        (422, "invalid_input", "query", {"query": "   "}),
        (422, "invalid_input", "queries", {"query": "a", "queries": ["b"]}),
        (422, "invalid_input", "queries[1]", {"queries": ["a", " "]}),
        (422, "invalid_input", "top_k", {"query": "a", "top_k": 0}),
        (422, "invalid_input", "top_k", {"query": "a", "top_k": 101}),
        (422, "invalid_input", "mode", {"query": "a", "mode": "magic"}),
        (422, "invalid_input", "filter.op", {"query": "a", "filter": {"field": "lang", "op": "like", "value": "e"}}),
        (422, "invalid_input", "vector", {"vector": [1.0, 2.0]}),
        (400, "malformed_input", "vector", {"vector": "***"}),
        (422, "invalid_input", "query", {"vector": [1.0] * 384, "mode": "hybrid"}),
        (422, "invalid_input", "kb", {"query": "a", "kb": 1}),
    ],
)
def test_a_bad_search_is_refused_by_field(api: Api, facts: str, status: int, code: str, field: str, body: dict[str, Any]) -> None:
    api.refused("POST", f"{facts}/search", status, code, field, json=body)


def test_own_vectors_as_numbers_and_as_base64(api: Api, own: str) -> None:
    items = [
        {"id": "east", "text": "sunrise", "vector": [1, 0, 0, 0]},
        {"id": "north", "text": "polar star", "vector": base64.b64encode(np.array([0, 2, 0, 0], "<f4").tobytes()).decode()},
    ]
    added = api.post(f"{own}/chunks", {"items": items})
    assert (added["generation"], added["added"], added["replaced"], added["ids"]) == (2, 2, 0, ["east", "north"])
    assert ids(api.post(f"{own}/search", {"vector": [0.1, 5, 0, 0]})) == ["north", "east"]
    assert ids(api.post(f"{own}/search", {"query": "sunrise"})) == ["east"]
    hybrid = api.post(f"{own}/search", {"query": "sunrise", "vector": [1, 0, 0, 0]})
    assert (hybrid["mode"], ids(hybrid)[0]) == ("hybrid", "east")
    api.refused("POST", f"{own}/search", 422, "invalid_input", "vector", json={"query": "a", "mode": "semantic"})


@pytest.mark.parametrize(
    ("field", "vector"),
    [
        ("items[1].vector", [1, 2, 3]),
        ("items[1].vector", [0, 0, 0, 0]),
        ("items[1].vector", [1e39, 0, 0, 0]),
        ("items[1].vector", base64.b64encode(np.array([np.nan, 0, 0, 1], "<f4").tobytes()).decode()),
        ("items[1].vector", base64.b64encode(np.array([np.inf, 0, 0, 1], "<f4").tobytes()).decode()),
        ("items[1].vector", None),
    ],
)
def test_a_bad_vector_is_refused_and_nothing_is_kept(api: Api, own: str, field: str, vector: Any) -> None:
    items = [{"text": "fine", "vector": [1, 0, 0, 0]}, {"text": "bad", "vector": vector}]
    api.refused("POST", f"{own}/chunks", 422, "invalid_input", field, json={"items": items})
    assert api.get(own)["generation"] == 1


def test_a_chunk_sent_again_under_its_id_is_replaced(api: Api, own: str) -> None:
    api.post(f"{own}/chunks", {"items": [{"id": "a", "text": "old words", "vector": [1, 0, 0, 0]}]})
    answer = api.post(
        f"{own}/chunks", {"items": [{"id": "a", "text": "new words", "vector": [0, 1, 0, 0]}, {"text": "b", "vector": [0, 0, 1, 0]}]}
    )
    assert (answer["added"], answer["replaced"]) == (2, 1)
    assert api.get(own)["chunk_count"] == 2
    assert api.get(f"{own}/chunks/a")["text"] == "new words"
    assert ids(api.post(f"{own}/search", {"query": "words"})) == ["a"]
    api.refused(
        "POST", f"{own}/chunks", 422, "invalid_input", "items[1].id", json={"items": [{"id": "x", "text": "1", "vector": [1, 0, 0, 0]}] * 2}
    )


def test_deleted_chunks_are_gone(api: Api, own: str) -> None:
    api.post(f"{own}/chunks", {"items": [{"id": key, "text": key, "vector": [1, 0, 0, 1]} for key in "abc"]})
    answer = api.post(f"{own}/chunks/delete", {"ids": ["a", "zz"]})
    assert (answer["deleted"], answer["missing"], answer["generation"]) == (["a"], ["zz"], 3)
    assert set(ids(api.post(f"{own}/search", {"vector": [1, 0, 0, 1]}))) == {"b", "c"}
    assert api.get(own)["chunk_count"] == 2


def test_vectors_are_not_taken_where_the_server_embeds(api: Api, facts: str) -> None:
    items = [{"text": "a", "vector": [0.1] * 384}]
    api.refused("POST", f"{facts}/chunks", 409, "conflict", "items[0].vector", json={"items": items})


def test_embeddings_are_the_same_for_the_same_text_and_come_from_the_cache(api: Api) -> None:
    text = f"a text nobody embedded before {new_id()}"
    before = api.get("/api/embeddings/cache")
    first = api.post("/api/embeddings", {"texts": [text, "other"]})
    again = api.post("/api/embeddings", {"texts": [text], "encoding": "base64"})
    after = api.get("/api/embeddings/cache")
    assert first["dimension"] == 384
    decoded = np.frombuffer(base64.b64decode(again["embeddings"][0]), "<f4")
    assert np.allclose(decoded, first["embeddings"][0], atol=1e-7)
    assert after["hits"] - before["hits"] == 1
    assert [model["default"] for model in api.get("/api/embeddings/models")["items"]].count(True) == 1
    api.refused("POST", "/api/embeddings", 422, "invalid_input", "texts[1]", json={"texts": ["a", " "]})


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"the bread rise"', {"bread"}),
        ('"programming languages" python', {"python"}),
        ('Eiffel -"eiffel tower" -"zebras have" -"programming language" -"knead"', {"lang-fr"}),
        ('"tower eiffel"', set()),
        ('stripes "striped"', {"zebra"}),
    ],
)
def test_a_phrase_is_in_every_hit_of_either_side(api: Api, facts: str, mode: str, query: str, expected: set[str]) -> None:
    assert set(ids(api.post(f"{facts}/search", {"query": query, "mode": mode}))) == expected


def test_a_prefix_finds_words_that_begin_so(api: Api, facts: str) -> None:
    assert ids(api.post(f"{facts}/search", {"query": "programm*", "mode": "keyword"})) == ["python"]
    assert ids(api.post(f"{facts}/search", {"query": "programm", "mode": "keyword"})) == []
    assert ids(api.post(f"{facts}/search", {"query": "dyna*", "mode": "keyword"})) == ["python"]
    assert ids(api.post(f"{facts}/search", {"query": "dyna", "mode": "keyword"})) == []


def test_a_plain_query_has_no_marks(api: Api, facts: str) -> None:
    body = {"query": '"tower eiffel"', "mode": "hybrid", "query_syntax": "plain"}
    assert len(ids(api.post(f"{facts}/search", body))) == len(FACTS)
    assert api.post(f"{facts}/search", {"query": '"tower eiffel"', "mode": "semantic"})["hits"]


def test_a_batch_may_mix_phrases_and_plain_questions(api: Api, facts: str) -> None:
    queries = ['"bread rise"', "bread", '"rise bread"', '-"bread"']
    answers = api.post(f"{facts}/search", {"queries": queries, "top_k": 10, "mode": "hybrid"})["results"]
    assert [len(answer["hits"]) for answer in answers] == [1, len(FACTS), 0, len(FACTS) - 1]
    for query, answer in zip(queries, answers, strict=True):
        alone = api.post(f"{facts}/search", {"query": query, "top_k": 10, "mode": "hybrid"})
        assert ids(alone) == ids(answer)


@pytest.mark.parametrize("query", ['"', '""', '"unbalanced', '-"', "*", "a*", '"!?" -"…"', "**", '"' * 99, "-" * 99])
def test_odd_marks_are_no_error(api: Api, facts: str, query: str) -> None:
    for mode in ("keyword", "hybrid"):
        api.post(f"{facts}/search", {"query": query, "mode": mode})


def test_what_is_left_out_is_not_embedded(api: Api, facts: str) -> None:
    """`-"words"` would draw the vector to what is not wanted."""
    both = [{"query": text, "mode": "hybrid", "include": ["scores"]} for text in ('striped animal -"bread rise"', "striped animal")]
    marked, alone = (api.post(f"{facts}/search", body)["hits"] for body in both)
    known = {hit["chunk_id"]: hit["semantic_score"] for hit in alone}
    assert {hit["chunk_id"] for hit in marked} == set(known) - {"bread"}
    for hit in marked:
        assert hit["semantic_score"] == pytest.approx(known[hit["chunk_id"]], abs=0.05)
