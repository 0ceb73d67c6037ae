"""An endpoint is spoken to over real HTTP; whatever it does, vectors are right or there are none."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest

from agenthub.core.errors import InvalidInput, ProviderFailure
from agenthub.rag.embedding.answers import read_vectors
from agenthub.rag.embedding.configuration import EndpointSettings
from agenthub.rag.embedding.remote import RemoteEmbedder
from tests.servers.openai_server import OpenAIServer, openai_server, vector_of

KEY = "sk-secret-4711"


def embedder_of(server: OpenAIServer, pauses: list[float] | None = None, **settings: Any) -> RemoteEmbedder:
    chosen = {"timeout_seconds": 5.0, "pause_failures": 100, **settings}
    endpoint = EndpointSettings(server.url, "test-model", KEY, **chosen)
    return RemoteEmbedder(endpoint, sleep=(pauses if pauses is not None else []).append)


def expected(texts: list[str], dimension: int = 8) -> np.ndarray[Any, Any]:
    vectors = np.array([vector_of(text, dimension) for text in texts])
    normalized: np.ndarray[Any, Any] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalized


@pytest.mark.parametrize("knows_base64", [True, False])
def test_vectors_come_in_order_and_of_length_one(knows_base64: bool) -> None:
    texts = [f"text {i}" for i in range(10)]
    with openai_server(knows_base64=knows_base64) as server:
        embedder = embedder_of(server, batch_texts=4)
        vectors = embedder.embed(texts)
        embedder.close()
    np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    assert vectors.dtype == np.float32
    assert [len(body["input"]) for body in server.requests if knows_base64 or body["encoding_format"] == "float"] == [4, 4, 2]
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


def test_batches_are_bounded_by_size() -> None:
    with openai_server() as server:
        embedder_of(server, batch_bytes=100).embed(["a" * 60, "b" * 60, "c" * 300, "d", "e"])
    assert [len(body["input"]) for body in server.requests] == [1, 1, 1, 2]


def test_the_dimension_is_learnt_by_one_question() -> None:
    with openai_server(dimension=12) as server:
        embedder = embedder_of(server)
        assert server.requests == []
        assert embedder.signature.dimension == embedder.signature.dimension == 12
        assert embedder.embed([]).shape == (0, 12)
    assert len(server.requests) == 1


def test_a_configured_dimension_is_not_asked_for() -> None:
    with openai_server() as server:
        embedder = embedder_of(server, dimension=5)
        assert embedder.signature.dimension == 5
        assert server.requests == []
        with pytest.raises(ProviderFailure, match="dimension"):
            embedder.embed(["x"])


def test_a_dimension_is_requested_when_told_so() -> None:
    with openai_server() as server:
        assert embedder_of(server, dimension=5, send_dimension=True).embed(["x"]).shape == (1, 5)
    assert server.requests[0]["dimensions"] == 5


def test_the_signature_names_model_and_endpoint_but_no_secret() -> None:
    with openai_server() as server:
        signature = embedder_of(server, dimension=8).signature
        named = embedder_of(server, dimension=8, revision="2026-01").signature
    assert signature.model == "test-model"
    assert KEY not in signature.text
    assert named.revision == "2026-01" != signature.revision


@pytest.mark.parametrize("fault", ["busy", "broken", "cut"])
def test_passing_failures_are_retried(fault: str) -> None:
    pauses: list[float] = []
    with openai_server(faults=[fault, fault]) as server:
        vectors = embedder_of(server, pauses, dimension=8).embed(["x"])
    np.testing.assert_allclose(vectors, expected(["x"]), atol=1e-6)
    assert len(server.requests) == 3
    assert pauses == [7.0, 7.0] if fault == "busy" else 0 < pauses[0] <= 0.5 and pauses[0] <= pauses[1] <= 1.0


def test_retries_end() -> None:
    pauses: list[float] = []
    with openai_server(faults=["broken"] * 50) as server, pytest.raises(ProviderFailure, match="HTTP 500") as caught:
        embedder_of(server, pauses, attempts=3).embed(["x"])
    assert (len(server.requests), len(pauses)) == (3, 2)
    assert caught.value.retry_after_seconds is not None


def test_a_wait_beyond_the_deadline_is_passed_on() -> None:
    pauses: list[float] = []
    with openai_server(faults=["busy"]) as server, pytest.raises(ProviderFailure) as caught:
        embedder_of(server, pauses, timeout_seconds=2.0, deadline_seconds=6.0).embed(["x"])
    assert pauses == []
    assert caught.value.retry_after_seconds == 7.0


@pytest.mark.parametrize(
    "fault",
    ["denied", "redirect", "garbage", "no_data", "nan", "half", "zero", "wrong_dimension", "doubled", "not_numbers", "bad_base64"],
)
def test_nonsense_is_no_vector_and_not_retried(fault: str) -> None:
    with openai_server(faults=[fault]) as server:
        embedder = embedder_of(server, dimension=8)
        with pytest.raises(ProviderFailure) as caught:
            embedder.embed(["one", "two"])
        assert KEY not in str(caught.value)
        assert len(server.requests) == 1
        np.testing.assert_allclose(embedder.embed(["one"]), expected(["one"]), atol=1e-6)


def test_answers_in_another_order_are_put_right() -> None:
    with openai_server(faults=["shuffled"]) as server:
        np.testing.assert_allclose(embedder_of(server).embed(["a", "b", "c"]), expected(["a", "b", "c"]), atol=1e-6)


def test_large_numbers_keep_their_direction() -> None:
    with openai_server(faults=["huge"]) as server:
        np.testing.assert_allclose(embedder_of(server).embed(["x"]), np.full((1, 8), 8**-0.5), atol=1e-6)


@pytest.mark.parametrize("fault", ["hang", "drip", "drip_head"])
def test_a_slow_endpoint_is_given_up(fault: str) -> None:
    with openai_server(faults=[fault]) as server, pytest.raises(ProviderFailure, match="in time"):
        embedder_of(server, timeout_seconds=0.5, attempts=1).embed(["x"])


def test_an_endpoint_that_is_not_there_is_said() -> None:
    with openai_server() as server:
        gone = server.url
    embedder = RemoteEmbedder(EndpointSettings(gone, "m", attempts=2), sleep=lambda seconds: None)
    with pytest.raises(ProviderFailure, match="can't be reached"):
        embedder.embed(["x"])


def test_an_endpoint_that_keeps_failing_is_left_alone() -> None:
    with openai_server(faults=["broken"] * 50) as server:
        embedder = embedder_of(server, attempts=1, pause_failures=3, pause_seconds=60.0)
        for _ in range(8):
            with pytest.raises(ProviderFailure) as caught:
                embedder.embed(["x"])
    assert len(server.requests) == 3
    assert caught.value.retry_after_seconds is not None
    assert 0 < caught.value.retry_after_seconds <= 60


def test_after_the_pause_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("agenthub.endpoints.bounded.time.monotonic", lambda: now[0])
    with openai_server(faults=["broken"] * 2) as server:
        embedder = embedder_of(server, attempts=1, pause_failures=2, pause_seconds=60.0)
        for _ in range(3):
            with pytest.raises(ProviderFailure):
                embedder.embed(["x"])
        now[0] += 61
        np.testing.assert_allclose(embedder.embed(["x"]), expected(["x"]), atol=1e-6)
        embedder.embed(["y"])
    assert len(server.requests) == 4


def test_variables_of_the_client_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-canary")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-canary")
    monkeypatch.setenv("OPENAI_API_KEY", "key-canary")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with openai_server() as server:
        RemoteEmbedder(EndpointSettings(server.url, "m")).embed(["x"])
    assert "canary" not in str(server.headers)


def test_blank_texts_are_refused_before_anything_is_sent() -> None:
    with openai_server() as server:
        with pytest.raises(InvalidInput) as caught:
            embedder_of(server).embed(["x", " "])
        assert server.requests == []
    assert caught.value.field == "texts[1]"


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(EndpointSettings("http://localhost", "m", KEY))


@pytest.mark.parametrize(
    "value",
    [[], [math.inf], "", base64.b64encode(b"abc").decode(), [True], {"a": 1}, None, [10**400], [[1.0]]],
)
def test_vectors_of_another_form_are_refused(value: Any) -> None:
    body = str({"data": [{"index": 0, "embedding": value}]}).replace("'", '"').replace("inf", "1e999").replace("True", "true")
    with pytest.raises(ProviderFailure):
        read_vectors(body.replace("None", "null").encode(), 1, None)
