"""A deployment over HTTP, as commands that work from afar see it: patient with a busy server, never twice with a write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx2

from agenthub.core.errors import AgentHubError
from agenthub.core.ids import random_name
from agenthub.core.json import dumps, loads

_TRIES: Final = 8
_LONGEST_PAUSE_SECONDS: Final = 30.0
_SECONDS: Final = 120.0
_LATER: Final = frozenset({408, 425, 429, 502, 503, 504})


class ServerRefusal(AgentHubError):
    """What the server said instead of doing it, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """The HTTP interface of one deployment. Safe to use from many threads."""

    def __init__(self, url: str, token: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = httpx2.Client(
            base_url=url.rstrip("/"), headers={"authorization": f"Bearer {token}"}, timeout=_SECONDS, follow_redirects=False
        )
        self._sleep = sleep

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON at a path. Raises: ServerRefusal; AgentHubError when the server can't be reached."""
        return self._ask("GET", path, params=dict(query or {}))

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Every item of a paged list. Raises: as `get`."""
        asked = {"limit": "200", **(query or {})}
        while True:
            page = self.get(path, asked)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            asked["cursor"] = page["next_cursor"]

    def post(self, path: str, body: Any) -> Any:
        """The answer to JSON. Raises: as `get`."""
        return self._ask("POST", path, content=dumps(body))

    def upload(self, path: str, files: Sequence[tuple[str, Path]], fields: Mapping[str, str]) -> Any:
        """The answer to files by multipart. Raises: as `get`; OSError when a file can't be read."""
        parts = [("files", (name, file.read_bytes(), "application/octet-stream")) for name, file in files]
        return self._ask("POST", path, files=parts, data=dict(fields))

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        """Ask until there is an answer that lasts; a write is repeated under one Idempotency-Key, so that it happens once."""
        headers = {"idempotency-key": random_name()} if method == "POST" else {}
        pause = 0.5
        for attempt in range(_TRIES):
            try:
                response = self._client.request(method, path, headers=headers, **request)
            except httpx2.TransportError as error:
                if attempt == _TRIES - 1:
                    raise AgentHubError(f"the server can't be reached: {error}") from error
                self._sleep(pause)
            else:
                if response.status_code not in _LATER or attempt == _TRIES - 1:
                    return _answer(response)
                self._sleep(_asked_pause(response, pause))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise AssertionError("unreachable")


def _asked_pause(response: httpx2.Response, pause: float) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_PAUSE_SECONDS) if text.isascii() and text.isdigit() else pause


def _answer(response: httpx2.Response) -> Any:
    try:
        body = loads(response.content) if response.content else None
    except AgentHubError as error:
        raise ServerRefusal(response.status_code, f"the server answered {response.status_code}, not in JSON: is this AgentHub?") from error
    if response.status_code >= 300:
        told = body.get("error") if isinstance(body, dict) else None
        message = told.get("message") if isinstance(told, dict) else None
        raise ServerRefusal(response.status_code, str(message or f"the server answered {response.status_code}"))
    return body
