"""Connections to addresses that were checked, and to no other; bounded in time and bytes down to the socket."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore2

from agenthub.core.errors import FetchFailed, PayloadTooLarge
from agenthub.fetching.addresses import Address

Resolver = Callable[[str, int], Sequence[str]]
"""From a host's name and port to its addresses as text; empty when there is none."""


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that this machine's resolver knows for a host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return ()
    return [str(entry[4][0]) for entry in found]


@dataclass(slots=True)
class Budget:
    """What is left of one fetch over all its redirects: `ends_at` on the monotonic clock, and bytes from the network."""

    ends_at: float
    bytes_left: int

    def seconds(self, most: float) -> float:
        """Seconds to wait at most now.

        Raises: FetchFailed when the time is over.
        """
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise FetchFailed("fetching took too long")
        return min(left, most)

    def spend(self, count: int) -> None:
        """Take note of bytes that came in.

        Raises: PayloadTooLarge when they are too many.
        """
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise PayloadTooLarge("what is at this address, with its redirects and headers, is larger than is taken")


def resolve_within(resolver: Resolver, host: str, port: int, budget: Budget, seconds: float) -> Sequence[str]:
    """The resolver's answer, if it comes in time: the system's resolver has no timeout of its own.

    Raises: FetchFailed when it doesn't.
    """
    answer: list[Sequence[str]] = []
    thread = threading.Thread(target=lambda: answer.append(resolver(host, port)), name="resolve", daemon=True)
    thread.start()
    thread.join(budget.seconds(seconds))
    if not answer:
        raise FetchFailed("the host's name can't be resolved now")
    return answer[0]


class CheckedBackend(httpcore2.NetworkBackend):
    """Connects to the given addresses whatever name it is asked for; TLS and the Host header keep the name."""

    def __init__(self, addresses: Sequence[Address], budget: Budget, connect_seconds: float, silent_seconds: float) -> None:
        self._addresses = addresses
        self._budget = budget
        self._connect_seconds = connect_seconds
        self._silent_seconds = silent_seconds
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - was resolved and checked before
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the budget's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first address that answers.

        Raises: httpcore2.ConnectError or ConnectTimeout of the last one; FetchFailed when the time is over.
        """
        last: Exception = httpcore2.ConnectError("no address")
        for address in self._addresses:
            seconds = self._budget.seconds(self._connect_seconds)
            try:
                stream = self._inner.connect_tcp(str(address), port, seconds, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
            else:
                return _BoundedStream(stream, self._budget, self._silent_seconds)
        raise last


class _BoundedStream(httpcore2.NetworkStream):
    """A stream that ends with its budget, however slowly its bytes drip: each read waits no longer than what is left."""

    def __init__(self, inner: httpcore2.NetworkStream, budget: Budget, silent_seconds: float) -> None:
        self._inner = inner
        self._budget = budget
        self._silent_seconds = silent_seconds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the budget's
        data = self._inner.read(max_bytes, self._budget.seconds(self._silent_seconds))
        self._budget.spend(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the budget's
        self._inner.write(buffer, self._budget.seconds(self._silent_seconds))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the budget's
    ) -> httpcore2.NetworkStream:
        seconds = self._budget.seconds(self._silent_seconds)
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._budget, self._silent_seconds)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
