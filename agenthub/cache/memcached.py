"""memcached's text protocol by pymemcache: plain, with its own log-in, or with MemCachier's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

from agenthub.cache.configuration import MemcachedSettings
from agenthub.cache.contract import ServerStatistics
from agenthub.cache.server import CONNECT_SECONDS, PROBE_KEY, TIMEOUT_SECONDS, LoginRefused, ValueRefused, check_probe, whole
from agenthub.cache.tls import client_context

_LONGEST_ANSWER: Final = 4096


class AuthClient(Client):  # type: ignore[misc]  # pymemcache's types say Any
    """A connection that logs in as soon as it is open. Credentials are bound by a subclass: pymemcache passes no arguments on."""

    username: str = ""
    password: str = ""
    protocol: str = "ascii"

    def _connect(self) -> None:
        super()._connect()
        if not self.username:
            return
        try:
            self._log_in()
        except BaseException:
            self.close()
            raise

    def _log_in(self) -> None:
        """Send the credentials as the value of a `set`, which is how both protocols do it. Raises: LoginRefused.

        A server without log-in would keep them as an entry for everyone. memcached's own says beforehand whether it has one;
        MemCachier's takes nothing before the log-in, so there what was kept is looked for, and removed.
        """
        name, value = ("auth", f"{self.username} {self.password}") if self.protocol == "ascii" else (self.username, self.password)
        if self.protocol == "ascii" and not self._asked(b"get auth\r\n").startswith(b"CLIENT_ERROR"):
            raise LoginRefused("the server has no log-in: user name and password were not sent")
        secret = value.encode()
        if not self._asked(b"set %s 0 0 %d\r\n%s\r\n" % (name.encode(), len(secret), secret)).startswith(b"STORED"):
            raise LoginRefused("the server refuses this user name and password")
        if self.protocol == "memcachier" and self._asked(b"get %s\r\n" % name.encode(), b"END\r\n").startswith(b"VALUE"):
            self._asked(b"delete %s\r\n" % name.encode())
            raise LoginRefused("the server has no such log-in: it kept the password as an entry, which was removed")

    def _asked(self, request: bytes, ending: bytes = b"\r\n") -> bytes:
        """What the server answers to a request, up to the `ending` or the end of the connection."""
        self.sock.sendall(request)
        answer = b""
        while not answer.endswith(ending) and len(answer) < _LONGEST_ANSWER:
            part = self.sock.recv(_LONGEST_ANSWER)
            if not part:
                break
            answer += part
        return answer


class MemcachedNode:
    """Implements `Node` for one server."""

    def __init__(self, host: str, port: int, settings: MemcachedSettings) -> None:
        bound = {"username": settings.username or "", "password": settings.password or "", "protocol": settings.protocol}
        client = type("BoundClient", (AuthClient,), bound)
        pool = type("BoundPool", (PooledClient,), {"client_class": client})
        self._client: Any = pool(
            (host, port),
            connect_timeout=CONNECT_SECONDS,
            timeout=TIMEOUT_SECONDS,
            no_delay=True,
            default_noreply=False,  # what is lost without a reply looks like success
            tls_context=client_context(settings.ca_file) if settings.tls else None,
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Node.get_many`."""
        found: dict[str, bytes] = self._client.get_many(list(keys))
        return found

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Node.set_many`."""
        try:
            failed = self._client.set_many(dict(items), expire=math.ceil(ttl_seconds))
        except MemcacheServerError as error:
            raise _meaning(error) from error
        if failed:
            raise ValueRefused(f"{len(failed)} values were not kept")

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Node.add`."""
        try:
            return bool(self._client.add(key, value, expire=math.ceil(ttl_seconds)))
        except MemcacheServerError as error:
            raise _meaning(error) from error

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int:
        """See `Node.increment`."""
        for _ in range(2):
            try:
                total = self._client.incr(key, amount)
            except MemcacheClientError as error:  # it holds no number: someone else's value
                raise ValueRefused("not a counter") from error
            if total is not None:
                return int(total)
            if self.add(key, b"%d" % amount, ttl_seconds):
                return amount
        raise ValueRefused("the counter comes and goes")

    def delete_many(self, keys: Sequence[str]) -> None:
        """See `Node.delete_many`."""
        for key in keys:
            self._client.delete(key)

    def probe(self) -> None:
        """See `Node.probe`."""
        self._client.set(PROBE_KEY, b"probe", expire=10)
        check_probe(self._client.get(PROBE_KEY))
        self._client.delete(PROBE_KEY)

    def statistics(self, address: str) -> ServerStatistics:
        """See `Node.statistics`."""
        return statistics_of(address, {str(_text(name)): value for name, value in self._client.stats().items()})

    def close(self) -> None:
        """See `Node.close`."""
        self._client.close()


def statistics_of(address: str, facts: Mapping[str, Any]) -> ServerStatistics:
    """What memcached's `stats` says."""
    return ServerStatistics(
        address,
        ok=True,
        version=_text(facts.get("version")),
        entries=whole(facts.get("curr_items")),
        size_bytes=whole(facts.get("bytes")),
        max_bytes=whole(facts.get("limit_maxbytes")),
        hits=whole(facts.get("get_hits")),
        misses=whole(facts.get("get_misses")),
        evictions=whole(facts.get("evictions")),
        connections=whole(facts.get("curr_connections")),
        uptime_seconds=whole(facts.get("uptime")),
    )


def _text(value: Any) -> str | None:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _meaning(error: MemcacheServerError) -> Exception:
    """A value the server has no room for is lost alone; anything else is about the server."""
    return ValueRefused("no room for this value") if "large" in str(error) or "memory" in str(error) else error
