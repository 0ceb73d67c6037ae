"""An endpoint for chat completions is spoken to over real HTTP; whatever it does, a text is whole or there is none, in bounded time."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from agenthub.core.errors import InvalidInput, ProviderFailure, RateLimited
from agenthub.core.observe import Unobserved
from agenthub.llm.configuration import LlmSettings
from agenthub.llm.contract import Ending, Message
from agenthub.llm.remote import RemoteModel
from tests.servers.openai_server import OpenAIServer, openai_server

KEY = "sk-secret-0815"
ASKED = [Message("system", "Be brief."), Message("user", "What is it? 灯台 \ud800")]


def model_of(server: OpenAIServer, pauses: list[float] | None = None, **settings: Any) -> RemoteModel:
    chosen: dict[str, Any] = {"wait_seconds": 5.0, "whole_seconds": 20.0, "pause_failures": 100, **settings}
    given = LlmSettings(server.url, ("small", "large"), KEY, **chosen)
    return RemoteModel(given, Unobserved(), sleep=(pauses if pauses is not None else []).append)


def written(model: RemoteModel, **options: Any) -> tuple[str, Ending]:
    writing = model.begin(ASKED, **options)
    text = "".join(piece or "" for piece in writing.pieces())
    assert writing.ending is not None
    return text, writing.ending


def test_a_text_arrives_in_pieces_with_its_counts() -> None:
    with openai_server() as server:
        writing = model_of(server).begin(ASKED, model="large", max_tokens=50, temperature=0.5)
        pieces = list(writing.pieces())
    assert "".join(piece or "" for piece in pieces) == "You said: What is it? 灯台 ?" and len(pieces) > 2
    assert writing.ending == Ending("large", "stop", 11, 7)
    (body,) = server.requests
    assert (body["model"], body["max_tokens"], body["temperature"], body["stream"]) == ("large", 50, 0.5, True)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert not {name for name in server.headers[0] if name.startswith("openai-")}


def test_a_server_without_token_counts_is_asked_without() -> None:
    with openai_server(faults=["no_usage", "no_usage", "no_usage"]) as server:
        model = model_of(server)
        assert written(model)[1] == Ending("small", "stop", None, None)
        assert written(model)[1].finish_reason == "stop"
    assert [("stream_options" in body) for body in server.requests] == [True, False, False]


def test_only_listed_models_are_asked() -> None:
    with openai_server() as server, pytest.raises(InvalidInput):
        model_of(server).begin(ASKED, model="huge")
    assert server.requests == []


def test_an_answer_that_was_cut_says_so() -> None:
    with openai_server(faults=["lengthy"]) as server:
        assert written(model_of(server))[1].finish_reason == "length"


@pytest.mark.parametrize("fault", ["soon", "broken"])
def test_a_passing_failure_is_repeated_once(fault: str) -> None:
    with openai_server(faults=[fault]) as server:
        pauses: list[float] = []
        assert written(model_of(server, pauses))[0].startswith("You said")
    assert len(server.requests) == 2 and len(pauses) == 1
    with openai_server(faults=[fault, fault]) as server, pytest.raises(ProviderFailure) as caught:
        written(model_of(server))
    assert caught.value.retry_after_seconds is not None


def test_a_long_pause_is_the_callers_to_make() -> None:
    with openai_server(faults=["busy"]) as server, pytest.raises(ProviderFailure) as caught:
        written(model_of(server))
    assert caught.value.retry_after_seconds == 7 and len(server.requests) == 1


@pytest.mark.parametrize("fault", ["denied", "redirect", "garbage", "page", "no_choices", "numbers", "failing", "half"])
def test_nonsense_is_a_failure_without_the_key(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with openai_server(faults=[fault]) as server, pytest.raises(ProviderFailure) as caught:
        written(model_of(server))
    assert KEY not in caught.value.message and KEY not in caplog.text
    assert len(server.requests) == 1


@pytest.mark.parametrize(("fault", "seconds"), [("hang", 0.3), ("stall", 0.3), ("drip", 0.6), ("drip_head", 0.6)])
def test_every_wait_ends(fault: str, seconds: float) -> None:
    with openai_server(faults=[fault, fault]) as server:
        started = time.monotonic()
        with pytest.raises(ProviderFailure):
            written(model := model_of(server, wait_seconds=0.3, whole_seconds=seconds, concurrent=1))
        assert time.monotonic() - started < 8
        server.faults.clear()
        assert written(model)[0].startswith("You said"), "the thread that read still holds the only slot"


def test_waiting_is_told() -> None:
    with openai_server(faults=["stall"]) as server:
        writing = model_of(server).begin(ASKED)
        pieces = writing.pieces(heartbeat_seconds=0.05)
        assert next(piece for piece in pieces if piece is not None) == "You sai"
        assert [next(pieces), next(pieces)] == [None, None]
        writing.close()


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_who_leaves_ends_the_providers_work(fault: str) -> None:
    with openai_server(faults=[fault]) as server:
        model = model_of(server, wait_seconds=30.0, concurrent=1)
        writing = model.begin(ASKED)
        next(writing.pieces())
        started = time.monotonic()
        writing.close()
        writing.close()
        if fault == "drip":
            assert server.hung_up.wait(3), "the provider was not hung up on"
        text, _ = written(model)  # the only slot is free again
        assert text.startswith("You said") and time.monotonic() - started < 5


def test_who_leaves_before_the_first_piece_ends_it_too() -> None:
    with openai_server(faults=["drip"]) as server:
        model = model_of(server, concurrent=1)
        model.begin(ASKED).close()
        assert written(model)[0].startswith("You said")
        assert server.hung_up.wait(3), "the provider goes on writing for nobody"


def test_no_more_are_written_at_once_than_allowed() -> None:
    with openai_server(faults=["stall"]) as server:
        model = model_of(server, concurrent=1)
        writing = model.begin(ASKED)
        next(writing.pieces())
        with pytest.raises(RateLimited):
            model.begin(ASKED)
        writing.close()


def test_a_failing_endpoint_is_left_alone_for_a_while() -> None:
    with openai_server(faults=["denied"] * 3) as server:
        model = model_of(server, pause_failures=2)
        for _ in range(2):
            with pytest.raises(ProviderFailure):
                written(model)
        with pytest.raises(ProviderFailure, match="left alone"):
            written(model)
    assert len(server.requests) == 2


def test_an_endpoint_that_is_not_there() -> None:
    model = RemoteModel(LlmSettings("http://127.0.0.1:9/v1", ("small",), KEY, attempts=1), Unobserved())
    with pytest.raises(ProviderFailure, match="can't be reached"):
        written(model)
