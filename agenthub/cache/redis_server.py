"""A Redis-compatible server (Redis, Valkey, KeyDB and hosted ones) by redis-py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError
from redis.retry import Retry

from agenthub.cache.contract import ServerStatistics
from agenthub.cache.server import CONNECT_SECONDS, PROBE_KEY, TIMEOUT_SECONDS, LoginRefused, ValueRefused, check_probe, whole


class RedisNode:
    """Implements `Node` for one URL."""

    def __init__(self, url: str, ca_file: str | None = None) -> None:
        authorities = {"ssl_ca_certs": ca_file} if ca_file and url.startswith("rediss:") else {}
        self._client: Any = redis.Redis.from_url(
            url,
            **authorities,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),  # asking again is the breaker's business
            decode_responses=False,
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Node.get_many`."""
        values = cast("list[bytes | None]", self._meant(lambda: self._client.mget(list(keys))))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Node.set_many`."""
        pipeline = self._client.pipeline(transaction=False)
        for key, value in items.items():
            pipeline.set(key, value, px=_milliseconds(ttl_seconds))
        self._meant(pipeline.execute)

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Node.add`."""
        return bool(self._meant(lambda: self._client.set(key, value, px=_milliseconds(ttl_seconds), nx=True)))

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int:
        """See `Node.increment`."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.set(key, 0, px=_milliseconds(ttl_seconds), nx=True)
        pipeline.incrby(key, amount)
        return int(self._meant(pipeline.execute)[1])

    def delete_many(self, keys: Sequence[str]) -> None:
        """See `Node.delete_many`."""
        self._meant(lambda: self._client.delete(*keys))

    def probe(self) -> None:
        """See `Node.probe`."""
        self._meant(lambda: self._client.set(PROBE_KEY, b"probe", ex=10))
        check_probe(self._meant(lambda: self._client.get(PROBE_KEY)))
        self._meant(lambda: self._client.delete(PROBE_KEY))

    def statistics(self, address: str) -> ServerStatistics:
        """See `Node.statistics`."""
        facts = self._client.info()
        return ServerStatistics(
            address,
            ok=True,
            version=str(facts.get("valkey_version") or facts.get("redis_version") or "unknown"),
            entries=whole(self._client.dbsize()),
            size_bytes=whole(facts.get("used_memory")),
            max_bytes=whole(facts.get("maxmemory")),
            hits=whole(facts.get("keyspace_hits")),
            misses=whole(facts.get("keyspace_misses")),
            evictions=whole(facts.get("evicted_keys")),
            connections=whole(facts.get("connected_clients")),
            uptime_seconds=whole(facts.get("uptime_in_seconds")),
        )

    def close(self) -> None:
        """See `Node.close`."""
        self._client.close()

    def _meant(self, question: Any) -> Any:
        """The answer. Raises: LoginRefused; ValueRefused where the server works but doesn't take this; redis' own errors."""
        try:
            return question()
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise LoginRefused("the server refuses this user name and password") from error
        except ResponseError as error:
            if str(error).startswith("NOAUTH"):
                raise LoginRefused("the server wants a password") from error
            raise ValueRefused(str(error)) from error


def _milliseconds(ttl_seconds: float) -> int:
    return max(1, round(ttl_seconds * 1000))
