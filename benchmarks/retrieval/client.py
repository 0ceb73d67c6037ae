"""The part of AgentHub's HTTP API that the benchmark uses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx

CHUNK_BATCH: Final = 100
QUERY_BATCH: Final = 50
TOP_K: Final = 10
TIMEOUT_SECONDS: Final = 300.0
T = TypeVar("T")


class BenchmarkFailure(Exception):
    """The server answered something else than the contract says, or nothing."""


class Client:
    """A session of one user."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, transport=transport, trust_env=False)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def login(self, email: str, password: str) -> None:
        """Start the session. Raises: BenchmarkFailure when the server refuses."""
        session = self._call("POST", "/api/auth/login", {"email": email, "password": password})
        self._http.headers["Authorization"] = f"Bearer {session['session_token']}"

    def organization(self) -> str:
        """The id of the user's organization."""
        return str(self._call("GET", "/api/auth/me")["organization_id"])

    @contextmanager
    def knowledge_base(self, name: str) -> Iterator[str]:
        """The id of a new knowledge base, which is deleted at the end of the block."""
        made = str(self._call("POST", "/api/knowledge-bases", {"name": f"{name} {uuid.uuid4().hex[:8]}"})["id"])
        try:
            yield made
        finally:
            self._call("DELETE", f"/api/knowledge-bases/{made}")

    def add_chunks(self, knowledge_base: str, texts: Mapping[str, str]) -> None:
        """Add every text as one chunk under its id."""
        for batch in _batches([{"id": key, "text": text} for key, text in texts.items()], CHUNK_BATCH):
            added = self._call("POST", f"/api/knowledge-bases/{knowledge_base}/chunks", {"items": batch})["added"]
            if added != len(batch):
                raise BenchmarkFailure(f"{len(batch)} chunks were sent and {added} added")

    def rankings(self, knowledge_base: str, queries: Mapping[str, str], mode: str) -> dict[str, list[str]]:
        """The ids of the best ten chunks by query id."""
        found: dict[str, list[str]] = {}
        for batch in _batches(list(queries.items()), QUERY_BATCH):
            body = {"queries": [text for _, text in batch], "mode": mode, "top_k": TOP_K, "include": []}
            results = self._call("POST", f"/api/knowledge-bases/{knowledge_base}/search", body)["results"]
            for (query, _), result in zip(batch, results, strict=True):
                found[query] = [str(hit["chunk_id"]) for hit in result["hits"]]
        return found

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._http.request(method, path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        except httpx.HTTPError as error:
            raise BenchmarkFailure(f"{method} {path}: {error!r}") from error
        if not answer.is_success:
            raise BenchmarkFailure(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
