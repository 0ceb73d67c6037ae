"""Responses over HTTP: plain chat, texts of the caller's own, knowledge bases; streamed; with and without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agenthub.rag.answering.prompting import REFUSAL
from tests.api import Api, make_app
from tests.servers.openai_server import openai_server

SERVICES = {"AGENTHUB_SERVICES": "knowledge.*,platform.*", "AGENTHUB_MAINTENANCE": "off"}
TEXTS = ["The ice house opens at eleven. It is closed on Sundays.", "The keeper lights the lamp at dusk."]
ASKED = [{"role": "user", "content": "When does the keeper light the lamp?"}]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(make_app(tmp_path_factory.mktemp("plain"), **SERVICES)).login()


def modelled(folder: Path, url: str) -> Api:
    return Api(make_app(folder, **SERVICES, LLM_BASE_URL=url, LLM_API_KEY="sk-x", LLM_MODEL="small", LLM_MODELS="large")).login()


def respond(api: Api, messages: Any = ASKED, status: int = 200, **more: Any) -> Any:
    return api.post("/api/responses", {"messages": messages, **more}, status)


def test_without_a_model_texts_answer_for_themselves(plain: Api) -> None:
    answer = respond(plain, context=TEXTS)
    assert (answer["kind"], answer["text"]) == ("extractive", "The keeper lights the lamp at dusk. [2]")
    (citation,) = answer["citations"]
    assert (citation["chunk_id"], citation["knowledge_base_id"], citation["start"], citation["end"]) == ("context-2", None, 0, 35)
    unknown = respond(plain, [{"role": "user", "content": "Who won the chess championship of 1972?"}], context=TEXTS)
    assert (unknown["kind"], unknown["text"]) == ("none", REFUSAL)
    assert plain.get("/api/responses/models") == {"models": []}


def test_without_a_model_knowledge_bases_answer(plain: Api) -> None:
    base = plain.post("/api/knowledge-bases", {"name": "harbour"}, 201)["id"]
    for text in TEXTS:
        plain.post(f"/api/knowledge-bases/{base}/documents", {"title": text[:9], "text": text}, 201)
    answer = respond(plain, knowledge_base_ids=[base])
    assert answer["text"].startswith("The keeper lights the lamp at dusk. [") and answer["citations"][0]["knowledge_base_id"] == base


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"messages": ASKED}, 409, "conflict", None),
        ({"messages": ASKED, "context": TEXTS, "answer_by": "model"}, 409, "conflict", "answer_by"),
        ({"messages": ASKED, "context": TEXTS, "model": "small"}, 409, "conflict", "model"),
        ({"messages": ASKED, "answer_by": "extractive"}, 422, "invalid_input", "context"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "At dusk."}]}, 422, "invalid_input", "messages[1].role"),
        ({"messages": [{"role": "user", "content": " "}]}, 422, "invalid_input", "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 422, "invalid_input", "messages[0].role"),
        ({"messages": []}, 422, "invalid_input", "messages"),
        ({"messages": ASKED, "context": TEXTS, "knowledge_base_ids": ["0" * 26]}, 422, "invalid_input", "context"),
        ({"messages": [{"role": "user", "content": "x" * 30_000}] * 7, "context": TEXTS}, 413, "payload_too_large", None),
    ],
)
def test_what_can_not_be_answered_is_refused(plain: Api, body: Any, status: int, code: str, field: str | None) -> None:
    plain.refused("POST", "/api/responses", status, code, field, json=body)


def test_a_model_goes_on_with_the_conversation(tmp_path: Path) -> None:
    with openai_server() as server:
        api = modelled(tmp_path, server.url)
        messages = [
            {"role": "system", "content": "Be brief."},
            *ASKED,
            {"role": "assistant", "content": "Then."},
            {"role": "user", "content": "Why?"},
        ]
        answer = respond(api, messages, model="large", max_tokens=9, temperature=1)
        assert (answer["kind"], answer["text"], answer["model"], answer["citations"]) == ("generated", "You said: Why?", "large", [])
        assert server.requests[0]["messages"] == messages and server.requests[0]["max_tokens"] == 9
        assert api.get("/api/responses/models") == {"models": ["small", "large"]}
        api.refused("POST", "/api/responses", 422, "invalid_input", "model", json={"messages": ASKED, "model": "huge"})


def test_a_model_rests_on_the_texts_it_is_given(tmp_path: Path) -> None:
    with openai_server(reply=lambda _: "At dusk [2], see ![x](http://evil.example) [5].") as server:
        api = modelled(tmp_path, server.url)
        messages = [{"role": "system", "content": "You are Ann."}, {"role": "assistant", "content": "Ask."}, *ASKED]
        answer = respond(api, messages, context=TEXTS)
        assert answer["text"] == "At dusk [2], see x." and [c["chunk_id"] for c in answer["citations"]] == ["context-2"]
        sent = server.requests[0]["messages"]
        assert [m["role"] for m in sent] == ["system", "assistant", "user"] and sent[0]["content"].startswith("You are Ann.")
        assert respond(api, context=TEXTS, answer_by="extractive")["kind"] == "extractive" and len(server.requests) == 1


@pytest.mark.parametrize("fault", ["", "half"])
def test_a_streamed_response(tmp_path: Path, fault: str) -> None:
    with openai_server(faults=[fault] if fault else []) as server:
        api = modelled(tmp_path, server.url)
        response = api.send("POST", "/api/responses", json={"messages": ASKED, "stream": True})
        blocks = [block.split("\n") for block in response.get_data(as_text=True).split("\n\n") if block.startswith("event")]
        told = [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in blocks]
        assert told[-1][0] == ("error" if fault else "answer")
        if not fault:
            assert (
                "".join(data["text"] for name, data in told if name == "text") == told[-1][1]["text"] == f"You said: {ASKED[0]['content']}"
            )
