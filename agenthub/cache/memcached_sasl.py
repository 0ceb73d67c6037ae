"""memcached's binary protocol with SASL, by python-binary-memcached: one connection per thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from bmemcached.exceptions import AuthenticationNotSupported, InvalidCredentials, MemcachedException
from bmemcached.protocol import Protocol

from agenthub.cache.configuration import MemcachedSettings
from agenthub.cache.contract import ServerStatistics
from agenthub.cache.memcached import statistics_of
from agenthub.cache.server import PROBE_KEY, TIMEOUT_SECONDS, LoginRefused, ValueRefused, check_probe
from agenthub.cache.tls import client_context

T = TypeVar("T")
_TOO_LARGE: Final = 0x03
_NOT_STORED: Final = 0x05
_NOT_A_NUMBER: Final = 0x06
_NO_MEMORY: Final = 0x82
_REFUSALS: Final = frozenset({_TOO_LARGE, _NOT_STORED, _NOT_A_NUMBER, _NO_MEMORY})


class _Lines(Protocol):  # type: ignore[misc]  # carries no types
    """The package's protocol (a `threading.local`) without its own pause after a failure: the breaker decides that."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.set_retry_delay(0)
        self.lost: Exception | None = None

    def _connection_error(self, exception: Exception) -> None:
        self.lost = exception
        super()._connection_error(exception)


class SaslNode:
    """Implements `Node` for one server. Values are raw: flags that ask for unpickling or inflating are not followed."""

    def __init__(self, host: str, port: int, settings: MemcachedSettings) -> None:
        self._lines = _Lines(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            settings.username,
            settings.password,
            socket_timeout=TIMEOUT_SECONDS,
            tls_context=client_context(settings.ca_file) if settings.tls else None,
            raw_data=True,
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Node.get_many`."""
        found: dict[str, tuple[bytes, int]] = self._ask(lambda: self._lines.get_multi(list(keys)))
        return {key: value for key, (value, _) in found.items()}

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Node.set_many`."""
        failed = self._ask(lambda: self._lines.set_multi(dict(items), math.ceil(ttl_seconds)))
        if failed:
            raise ValueRefused(f"{len(failed)} values were not kept")

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Node.add`."""
        return bool(self._ask(lambda: self._lines.add(key, value, math.ceil(ttl_seconds))))

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int:
        """See `Node.increment`."""
        return int(self._ask(lambda: self._lines.incr(key, amount, default=amount, time=math.ceil(ttl_seconds))))

    def delete_many(self, keys: Sequence[str]) -> None:
        """See `Node.delete_many`."""
        self._ask(lambda: self._lines.delete_multi(list(keys)))

    def probe(self) -> None:
        """See `Node.probe`."""
        self._ask(lambda: self._lines.set(PROBE_KEY, b"probe", 10))
        check_probe(self._ask(lambda: self._lines.get(PROBE_KEY))[0])
        self.delete_many([PROBE_KEY])

    def statistics(self, address: str) -> ServerStatistics:
        """See `Node.statistics`."""
        return statistics_of(address, self._ask(lambda: self._lines.stats()))  # noqa: PLW0108 (names the thread's own connection)

    def close(self) -> None:
        """See `Node.close`. Connections of other threads end with their threads."""
        with suppress(OSError):
            self._lines.disconnect()

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer. The package answers a lost connection like a miss, and keeps one that is out of step: both end here.

        Raises: LoginRefused, ValueRefused, OSError, MemcachedException.
        """
        try:
            answer = question()
        except (InvalidCredentials, AuthenticationNotSupported) as error:
            self.close()
            raise LoginRefused("the server refuses this user name and password") from error
        except MemcachedException as error:
            self.close()
            if error.code == 0x20:
                raise LoginRefused("the server refuses this user name and password") from error
            if error.code in _REFUSALS:
                raise ValueRefused("no room for this value, or not a counter") from error
            raise
        except BaseException:
            self.close()
            raise
        if self._lines.connection is None:
            raise ConnectionError("the connection was lost, or never made") from self._lines.lost
        return answer
