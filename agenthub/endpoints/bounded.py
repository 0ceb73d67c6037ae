"""Talking to an endpoint that may be slow, broken or hostile: every request is bounded in time and size."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

import httpx2

from agenthub.core.errors import ProviderFailure

MAX_ANSWER_BYTES: Final = 64 << 20
MAX_CONNECTIONS: Final = 8
CONNECT_SECONDS: Final = 5.0


class BoundedTransport(httpx2.BaseTransport):
    """HTTP whose whole answer arrives within a time and a size, however slowly the bytes drip."""

    def __init__(self, timeout_seconds: float, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=30.0)
        self._inner = httpx2.HTTPTransport(limits=limits, trust_env=False)
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises: httpx2.TransportError when the answer is late, over the size, or compressed though that was not asked for."""
        end = time.monotonic() + self._timeout_seconds
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise httpx2.RemoteProtocolError("the answer is compressed", request=request)
        stream = response.stream
        if not isinstance(stream, httpx2.SyncByteStream):
            raise httpx2.RemoteProtocolError("the answer is no stream", request=request)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Bounded(stream, end, self._max_bytes, request),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._inner.close()


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, end: float, max_bytes: int, request: httpx2.Request) -> None:
        self._inner = inner
        self._end = end
        self._left = max_bytes
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        for block in self._inner:
            self._left -= len(block)
            if time.monotonic() > self._end:
                raise httpx2.ReadTimeout("the answer took too long", request=self._request)
            if self._left < 0:
                raise httpx2.RemoteProtocolError("the answer is too large", request=self._request)
            yield block

    def close(self) -> None:
        self._inner.close()


class Breaker:
    """Leaves an endpoint alone for a while after it failed several times in a row, so that callers fail at once."""

    def __init__(self, name: str, failures: int, pause_seconds: float) -> None:
        self._name = name
        self._allowed = failures
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._failed = 0
        self._closed_until = 0.0

    def check(self) -> None:
        """Raises: ProviderFailure with the seconds left, during a pause. After it, one caller may try at a time."""
        with self._lock:
            left = self._closed_until - time.monotonic()
            if left > 0:
                raise ProviderFailure(f"{self._name} failed repeatedly and is left alone", retry_after_seconds=left)
            if self._failed >= self._allowed:
                self._closed_until = time.monotonic() + self._pause_seconds

    def note(self, succeeded: bool) -> None:
        """Count an outcome."""
        with self._lock:
            self._failed = 0 if succeeded else self._failed + 1
            if succeeded:
                self._closed_until = 0.0
            elif self._failed >= self._allowed:
                self._closed_until = time.monotonic() + self._pause_seconds
