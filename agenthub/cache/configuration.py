"""The settings of the cache, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DEFAULT_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Which cache was asked for; nothing means the process's own memory, up to `max_bytes`."""

    memcached_servers: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    max_bytes: int = DEFAULT_MAX_BYTES
