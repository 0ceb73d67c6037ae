"""What every cache backend promises: little. An entry may be gone at any time, but what is read is what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

MAX_TTL_SECONDS: Final = 30 * 86_400.0
"""Longer times are cut to this: memcached takes more than 30 days for a date in 1970."""
MAX_VALUE_BYTES: Final = 1_000_000
"""Larger values are not kept: what the smallest servers take (1 MiB with key and header)."""
SEAL_BYTES: Final = 17
"""What signing adds to a value on a server."""


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """One server as it says itself. `reason` is why it can't be used now; None of a number: it doesn't say."""

    address: str
    ok: bool
    reason: str | None = None
    version: str | None = None
    entries: int | None = None
    size_bytes: int | None = None
    max_bytes: int | None = None
    hits: int | None = None
    misses: int | None = None
    evictions: int | None = None
    connections: int | None = None
    uptime_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class KindStatistics:
    """What one kind of entry was to this process. Bytes are those of values; `seconds` is the time of all `operations` together."""

    kind: str
    hits: int = 0
    misses: int = 0
    errors: int = 0
    forged: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    operations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a backend holds and did. None: the backend can't tell."""

    backend: str
    entries: int | None
    size_bytes: int | None
    max_bytes: int | None
    hits: int
    misses: int
    evictions: int | None
    errors: int = 0
    forged: int = 0
    servers: tuple[ServerStatistics, ...] = ()
    kinds: tuple[KindStatistics, ...] = ()


class Cache(Protocol):
    """A shared or private cache. Safe to share between threads. Keys come from `CacheKeys` only.

    No operation raises because the cache failed: a read then misses, a write is lost. Every entry expires.
    """

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The entries present, by key."""
        ...

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keep or replace the entries for at most `ttl_seconds`; values over 1,000,000 bytes are dropped, with what they replace.

        Raises: ValueError when `ttl_seconds` is not positive.
        """
        ...

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """Keep the entry unless one is there; whether it was kept. Of several at once at most one is told True.

        Raises: ValueError when `ttl_seconds` is not positive.
        """
        ...

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        """Add to a counter that is 0 until its first increment and lives `ttl_seconds` from then; its value, None when nobody can tell.

        A counter is no entry: `get_many` doesn't show it. Raises: ValueError when `ttl_seconds` is not positive.
        """
        ...

    def flush(self, namespace: str) -> bool:
        """Forget every entry whose key `CacheKeys` made for this namespace; False when the cache can't be told.

        Other processes that share the cache follow within 5 seconds.
        """
        ...

    def statistics(self) -> CacheStatistics:
        """What it holds now, and did since it was opened by this process."""
        ...

    def check(self) -> tuple[ServerStatistics, ...]:
        """Write, read and delete on each server now; what each said. Empty where there is no server."""
        ...

    def close(self) -> None:
        """Give memory and connections back. Afterwards every read misses and every write is lost."""
        ...


def checked_ttl_seconds(ttl_seconds: float) -> float:
    """The time, cut to 30 days. Raises: ValueError when it is not positive."""
    if not ttl_seconds > 0:
        raise ValueError(f"every entry expires: ttl_seconds must be positive, not {ttl_seconds}")
    return min(ttl_seconds, MAX_TTL_SECONDS)
