"""Talking to an endpoint that may be slow, broken or hostile: every request is bounded in time and size."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpcore2
import httpx2

from agenthub.core.errors import ProviderFailure

MAX_ANSWER_BYTES: Final = 64 << 20
MAX_CONNECTIONS: Final = 8
CONNECT_SECONDS: Final = 5.0
_PIECE_BYTES: Final = 16_384


class _TimedStream(httpcore2.NetworkStream):
    """A connection whose exchanges each end in time: the client waits so long for every byte, and headers may drip for ever.

    An exchange begins with the first byte that is written after some were read.
    """

    def __init__(self, inner: httpcore2.NetworkStream, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds
        self._answered = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._answered = True
        return self._inner.read(max_bytes, self._most(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._answered:
            self._answered, self._ends_at = False, time.monotonic() + self._seconds
        for start in range(0, len(buffer), _PIECE_BYTES):
            self._inner.write(buffer[start : start + _PIECE_BYTES], self._most(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._seconds)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _most(self, timeout: float | None, late: type[Exception]) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise late
        return left if timeout is None else min(left, timeout)


class _TimedBackend(httpcore2.SyncBackend):
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _TimedStream(super().connect_tcp(host, port, timeout, local_address, socket_options), self._seconds)


class _TimedTransport(httpx2.HTTPTransport):
    def __init__(self, seconds: float) -> None:
        super().__init__(trust_env=False)
        self._pool.close()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS,
            keepalive_expiry=30.0,
            network_backend=_TimedBackend(seconds),
        )


class BoundedTransport(httpx2.BaseTransport):
    """HTTP whose whole answer arrives within a time and a size, however slowly the bytes drip."""

    def __init__(self, timeout_seconds: float, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._inner = _TimedTransport(timeout_seconds)
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
