"""Any OpenAI-compatible embedding endpoint, through OpenAI's own client."""

from __future__ import annotations

import email.utils
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx2
import numpy as np
import openai

from agenthub.core.errors import ProviderFailure
from agenthub.rag.embedding.answers import read_vectors
from agenthub.rag.embedding.configuration import EndpointSettings
from agenthub.rag.embedding.contract import ModelSignature, Vectors, check_texts
from agenthub.rag.embedding.endpoint import CONNECT_SECONDS, BoundedTransport, Breaker

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
_NO_KEY: Final = "none"
_BASE64_REFUSED: Final = frozenset({400, 422})
_SERVER_ERROR: Final = 500
_RETRIED: Final = frozenset({408, 409, 425, 429})


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
        self._breaker = Breaker(settings.pause_failures, settings.pause_seconds)

    @property
    def signature(self) -> ModelSignature:
        """See `Embedder.signature`. Asks the endpoint once when its dimension is not configured."""
        if self._dimension is None:
            self.embed(["dimension"])
        revision = self._settings.revision or "sha256:" + hashlib.sha256(self._settings.base_url.rstrip("/").encode()).hexdigest()
        return ModelSignature(self.model, revision, "provider", self._dimension or 0, None)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder.embed`. Passing failures are retried with growing, jittered pauses until the batch's deadline."""
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
            pause = _pause_seconds(attempt, outcome.wait_seconds)
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
    timeout = httpx2.Timeout(settings.timeout_seconds, connect=min(CONNECT_SECONDS, settings.timeout_seconds))
    http = httpx2.Client(
        transport=BoundedTransport(settings.timeout_seconds),
        headers={"Accept-Encoding": "identity"},
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
    )
    client = openai.OpenAI(
        api_key=settings.api_key or _NO_KEY, base_url=settings.base_url, timeout=timeout, max_retries=0, http_client=http, webhook_secret=""
    )
    # The client reads these from OPENAI_* variables; an endpoint of another provider has no business with them.
    client.organization = client.project = None
    return client


def _refusal(error: openai.APIStatusError) -> _Failed:
    """Without the answer's body, which may repeat the key or the text."""
    status = error.status_code
    wait = _asked_pause(error.response.headers.get("retry-after"))
    return _Failed(f"the embedding endpoint answered HTTP {status}", status in _RETRIED or status >= _SERVER_ERROR, status, wait)


def _pause_seconds(attempt: int, asked_seconds: float | None) -> float:
    if asked_seconds is not None:
        return asked_seconds
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter


def _asked_pause(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None when it is absent or neither."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
