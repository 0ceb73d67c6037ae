"""A reranking endpoint of the kind that Cohere, Jina, vLLM and others speak: POST …/rerank with a query and documents."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Final

import httpx2

from agenthub.core import json
from agenthub.core.errors import MalformedInput, ProviderFailure
from agenthub.endpoints.bounded import CONNECT_SECONDS, BoundedTransport, Breaker
from agenthub.endpoints.openai_client import asked_pause, may_pass
from agenthub.rag.configuration import RerankSettings

_MAX_ANSWER_BYTES: Final = 4 << 20
_MAX_TEXT: Final = 8_000
"""Characters of one text that are sent; models read less."""


class EndpointReranker:
    """See `Reranker`. Asked once for each search: a person waits, so nothing is repeated."""

    def __init__(self, settings: RerankSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._breaker = Breaker("the reranking endpoint", settings.pause_failures, settings.pause_seconds)

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """See `Reranker.scores`."""
        self._breaker.check()
        try:
            found = self._asked(question, texts)
        except ProviderFailure:
            self._breaker.note(succeeded=False)
            raise
        self._breaker.note(succeeded=True)
        return found

    def close(self) -> None:
        """See `Reranker.close`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _asked(self, question: str, texts: Sequence[str]) -> list[float]:
        documents = [_sendable(text[:_MAX_TEXT]) for text in texts]
        body = {"model": self._settings.model, "query": _sendable(question), "documents": documents, "top_n": len(documents)}
        headers = {"Authorization": f"Bearer {self._settings.api_key}"} if self._settings.api_key else {}
        try:
            answer = self._opened().post(f"{self._settings.base_url.rstrip('/')}/rerank", json=body, headers=headers)
            data = answer.read()
        except httpx2.TimeoutException as error:
            raise ProviderFailure("the reranking endpoint did not answer in time", retry_after_seconds=1) from error
        except httpx2.HTTPError as error:
            raise ProviderFailure(f"the reranking endpoint can't be reached ({type(error).__name__})", retry_after_seconds=1) from error
        if answer.status_code != 200:
            pause = (asked_pause(answer.headers) or 1.0) if may_pass(answer.status_code) else None
            raise ProviderFailure(f"the reranking endpoint answered HTTP {answer.status_code}", retry_after_seconds=pause)
        return _read(data, len(texts))

    def _opened(self) -> httpx2.Client:
        with self._lock:
            if self._client is None:
                seconds = self._settings.timeout_seconds
                self._client = httpx2.Client(
                    transport=BoundedTransport(seconds, _MAX_ANSWER_BYTES),
                    headers={"Accept-Encoding": "identity"},
                    timeout=httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)),
                    follow_redirects=False,
                    trust_env=False,
                )
            return self._client


def _read(data: bytes, count: int) -> list[float]:
    """The numbers of an answer, in the order of the texts.

    Raises: ProviderFailure when there is not exactly one finite number for each.
    """
    try:
        value = json.loads(data)
    except MalformedInput as error:
        raise ProviderFailure("the reranking endpoint's answer is not JSON") from error
    results: Any = value.get("results") if isinstance(value, dict) else None
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise ProviderFailure("the reranking endpoint's answer has no list `results`")
    found = {item.get("index"): item.get("relevance_score") for item in results if type(item.get("index")) is int}
    numbers = [found.get(index) for index in range(count)]
    if len(results) != count or not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise ProviderFailure("the reranking endpoint answered not one number for each text")
    return [float(number) for number in numbers if number is not None]


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
