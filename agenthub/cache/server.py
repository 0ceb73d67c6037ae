"""One cache server behind a circuit breaker: once it fails, nobody waits for it until a probe in the background says it is well."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from agenthub.cache.contract import ServerStatistics
from agenthub.cache.tls import refusal

T = TypeVar("T")
CONNECT_SECONDS: Final = 0.2
TIMEOUT_SECONDS: Final = 0.2
PROBE_KEY: Final = "agenthub.probe"
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0
QUICK_SECONDS: Final = 0.05
"""What fails faster than this is tried once more."""
CALM_SECONDS: Final = 30.0
"""A server that fails again within this time is left alone for twice as long as before."""

_log = logging.getLogger("agenthub.cache")


class CacheFailure(Exception):
    """A server did not do what it was asked. Never leaves `agenthub.cache`."""


class LoginRefused(CacheFailure):
    """The server does not accept the user name or password."""


class ValueRefused(CacheFailure):
    """The server works, but does not take this value."""


class ServerDown(CacheFailure):
    """The server is not asked: it failed lately."""


class Node(Protocol):
    """One server's driver. Thread-safe, connects on first use, and raises whatever its client raises."""

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The entries present, in one round trip."""
        ...

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keep the entries, in one round trip. Raises: ValueRefused when some were not kept."""
        ...

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Keep the entry unless there is one; whether it was kept."""
        ...

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int:
        """Add to a counter, made when it is missing; its value."""
        ...

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget the entries."""
        ...

    def probe(self) -> None:
        """Write, read and delete. Raises: CacheFailure when what is read is not what was written."""
        ...

    def statistics(self, address: str) -> ServerStatistics:
        """What the server says about itself."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class Server:
    """A node with its breaker. A process that was forked makes connections of its own."""

    def __init__(self, address: str, connect: Callable[[], Node]) -> None:
        self.address = address
        self._connect = connect
        self._lock = threading.Lock()
        self._node: Node | None = None
        self._process = 0
        self._closing = threading.Event()
        self._down: str | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._recovered_at = 0.0

    @property
    def available(self) -> bool:
        """Whether it is asked: not closed, and no failure since it was last well."""
        return not self._closing.is_set() and (self._down is None or self._process != os.getpid())

    def ask(self, question: Callable[[Node], T]) -> T:
        """The node's answer. A failure keeps everybody away until the server is well again.

        Raises: ServerDown without asking; else what the node raised.
        """
        if not self.available:
            raise ServerDown(self._down or "closed")
        node, started = self._own_node(), time.monotonic()
        try:
            return question(node)
        except ValueRefused:
            raise
        except Exception as error:
            self._drop(node)
            if isinstance(error, CacheFailure) or time.monotonic() - started > QUICK_SECONDS:
                self._fail(error)
                raise
        return self._ask_again(question)

    def _ask_again(self, question: Callable[[Node], T]) -> T:
        """Over a new connection: what failed at once was most likely an old one that the server had closed meanwhile."""
        node = self._own_node()
        try:
            return question(node)
        except ValueRefused:
            raise
        except Exception as error:
            self._drop(node)
            self._fail(error)
            raise

    def _drop(self, node: Node) -> None:
        """Forget a node with all its connections, unless that happened already."""
        with self._lock:
            if self._node is not node:
                return
            self._node = None
        node.close()

    def check(self) -> ServerStatistics:
        """Write, read and delete now, whatever the breaker says, and what the server says about itself."""
        try:
            node = self._own_node()
            node.probe()
            return node.statistics(self.address)
        except Exception as error:  # a finding, not a failure: drivers raise errors of many kinds
            return ServerStatistics(self.address, ok=False, reason=_reason(error))

    def close(self) -> None:
        """Close connections; it is not available afterwards."""
        with self._lock:
            self._closing.set()
            node = self._node
        if node is not None and self._process == os.getpid():
            self._drop(node)

    def _own_node(self) -> Node:
        node = self._node
        if node is not None and self._process == os.getpid():
            return node
        with self._lock:
            if self._node is None or self._process != os.getpid():
                if self._process != os.getpid():
                    self._process, self._down = os.getpid(), None
                self._node = self._connect()
            return self._node

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self._down is not None or self._closing.is_set():
                return
            self._down = _reason(error)
            again = time.monotonic() - self._recovered_at < CALM_SECONDS and self._recovered_at > 0
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS) if again else FIRST_PAUSE_SECONDS
        _log.warning("cache server %s left alone: %s", self.address, self._down)
        threading.Thread(target=self._wait_until_well, daemon=True, name=f"cache-probe-{self.address}").start()

    def _wait_until_well(self) -> None:
        """In a thread of its own, so that no request waits for a server that is slow to fail."""
        while not self._closing.wait(self._pause_seconds):
            reason = self.check().reason
            if reason is None:
                with self._lock:
                    self._down, self._recovered_at = None, time.monotonic()
                _log.warning("cache server %s is used again", self.address)
                return
            self._down = reason
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def check_probe(value: object) -> None:
    """Return if the probe's value came back. Raises: CacheFailure otherwise."""
    if value != b"probe":
        raise CacheFailure("it does not return what was written")


def whole(value: Any) -> int | None:
    """A number as a server says it (text, bytes or number), or None."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _reason(error: Exception) -> str:
    """For people: our own words, or the kind of error alone, for a driver's message may hold an address or a credential."""
    return str(error) if isinstance(error, CacheFailure) else refusal(error) or type(error).__name__
