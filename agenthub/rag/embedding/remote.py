"""Any OpenAI-compatible embedding endpoint, through OpenAI's own client."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2
import numpy as np
import openai

from agenthub.core.errors import ProviderFailure
from agenthub.endpoints.bounded import MAX_ANSWER_BYTES, Breaker
from agenthub.endpoints.openai_client import asked_pause, may_pass, open_client, pause_seconds
from agenthub.rag.embedding.answers import read_vectors
from agenthub.rag.embedding.configuration import EndpointSettings
from agenthub.rag.embedding.contract import ModelSignature, Vectors, check_texts

_BASE64_REFUSED: Final = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class _Failed:
    """One request that brought no vectors."""

    message: str
    passing: bool  # whether the same request may succeed later
    status: int | None = None
    wait_seconds: float | None = None  # what the endpoint asked for


class RemoteEmbedder:
    """A model behind an endpoint. Requests are bounded in time, size and number; redirects are never followed with the key."""

    def __init__(self, settings: EndpointSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.model = settings.model
        self._settings = settings
        self._sleep = sleep
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None
        self._dimension = settings.dimension
        self._base64 = True
        self._breaker = Breaker("the embedding endpoint", settings.pause_failures, settings.pause_seconds)

    @property
    def signature(self) -> ModelSignature:
        """See `Embedder.signature`. Asks the endpoint once when its dimension is not configured."""
        if self._dimension is None:
            self.embed(["dimension"])
        revision = self._settings.revision or "sha256:" + hashlib.sha256(self._settings.base_url.rstrip("/").encode()).hexdigest()
        return ModelSignature(self.model, revision, "provider", self._dimension or 0, None)

    def embed(self, texts: Sequence[str], *, background: bool = False) -> Vectors:
        """See `Embedder.embed`. Passing failures are retried with growing, jittered pauses until the batch's deadline."""
        del background  # the processor is another's
        check_texts(texts)
        rows = [self._ask(batch) for batch in self._batches(texts)]
        if rows:
            return np.concatenate(rows)
        return np.empty((0, self.signature.dimension), np.float32)

    def close(self) -> None:
        """See `Embedder.close`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode("utf-8", "replace"))
            if batch and (len(batch) >= self._settings.batch_texts or size + length > self._settings.batch_bytes):
                yield batch
                batch, size = [], 0
            batch.append(text.encode("utf-8", "replace").decode())
            size += length
        if batch:
            yield batch

    def _ask(self, batch: list[str]) -> Vectors:
        end = time.monotonic() + self._settings.deadline_seconds
        for attempt in range(1, self._settings.attempts + 1):
            self._breaker.check()
            outcome = self._request(batch)
            self._breaker.note(not isinstance(outcome, _Failed))
            if not isinstance(outcome, _Failed):
                return outcome
            pause = pause_seconds(attempt, outcome.wait_seconds)
            late = time.monotonic() + pause + self._settings.timeout_seconds > end
            if not outcome.passing or late or attempt == self._settings.attempts:
                raise ProviderFailure(outcome.message, retry_after_seconds=pause if outcome.passing else None)
            self._sleep(pause)
        raise ProviderFailure("the embedding endpoint was not asked: attempts must be at least 1")

    def _request(self, batch: list[str]) -> Vectors | _Failed:
        """Ask once; a server that knows no base64 is asked a second time for plain numbers, and so from then on."""
        outcome = self._exchange(batch, self._base64)
        if isinstance(outcome, _Failed) and self._base64 and outcome.status in _BASE64_REFUSED:
            outcome = self._exchange(batch, base64=False)
            self._base64 = isinstance(outcome, _Failed)
        return outcome

    def _exchange(self, batch: list[str], base64: bool) -> Vectors | _Failed:
        try:
            answer = self._opened().embeddings.with_raw_response.create(
                model=self.model,
                input=batch,
                encoding_format="base64" if base64 else "float",
                dimensions=self._dimension if self._settings.send_dimension and self._dimension else openai.omit,
            )
            return self._learn(read_vectors(answer.content, len(batch), self._dimension))
        except ProviderFailure as nonsense:
            return _Failed(nonsense.message, passing=False)
        except openai.APIStatusError as error:
            return _refusal(error)
        except openai.APITimeoutError:
            return _Failed("the embedding endpoint did not answer in time", passing=True)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            return _Failed(f"the embedding endpoint can't be reached ({type(error.__cause__ or error).__name__})", passing=True)

    def _learn(self, vectors: Vectors) -> Vectors:
        with self._lock:
            if self._dimension is None:
                self._dimension = int(vectors.shape[1])
            if self._dimension != vectors.shape[1]:
                raise ProviderFailure(f"the embedding endpoint answered dimension {vectors.shape[1]}, not {self._dimension}")
        return vectors

    def _opened(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                self._client = _client(self._settings)
            return self._client


def _client(settings: EndpointSettings) -> openai.OpenAI:
    seconds = settings.timeout_seconds
    return open_client(settings.base_url, settings.api_key, wait_seconds=seconds, whole_seconds=seconds, max_bytes=MAX_ANSWER_BYTES)


def _refusal(error: openai.APIStatusError) -> _Failed:
    """Without the answer's body, which may repeat the key or the text."""
    status = error.status_code
    wait = asked_pause(error.response.headers)
    return _Failed(f"the embedding endpoint answered HTTP {status}", may_pass(status), status, wait)
