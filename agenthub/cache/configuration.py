"""The settings of the cache, as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from agenthub.core.errors import SettingsError

DEFAULT_MAX_BYTES: Final = 64 << 20
DEFAULT_PORT: Final = 11211
Protocol = Literal["ascii", "memcachier", "sasl"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
_SERVER: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?\Z")


@dataclass(frozen=True, slots=True)
class MemcachedSettings:
    """A memcached cluster and how to log in to it.

    `ascii` logs in as memcached's own `-Y` file asks, `memcachier` as that host's text protocol does, `sasl` by the binary protocol.
    With `tls` certificates are checked against the authorities in `ca_file`, or the system's.
    """

    servers: tuple[tuple[str, int], ...]
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    protocol: Protocol = "ascii"
    tls: bool = False
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Which cache was asked for; nothing means the process's own memory, up to `max_bytes`.

    `secret` signs what is kept on servers; None lets the storage keep one. `deployment` separates deployments on one server.
    `redis_ca_file` holds the authorities that a rediss:// server's certificate is checked against; None: the system's.
    """

    memcached: MemcachedSettings | None = None
    redis_url: str | None = field(default=None, repr=False)
    redis_ca_file: str | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    secret: str | None = field(default=None, repr=False)
    deployment: str = "agenthub"

    @property
    def backend(self) -> str:
        """Its name, for people."""
        return "memcached" if self.memcached else "redis" if self.redis_url else "in-process"

    @property
    def shared(self) -> bool:
        """Whether other processes see the same entries."""
        return self.memcached is not None or self.redis_url is not None


@dataclass(frozen=True, slots=True)
class RateSettings:
    """How many requests a minute each API key, user, organization and network address has."""

    per_key: int = 60_000
    per_user: int = 60_000
    per_organization: int = 240_000
    per_address: int = 120_000


def parse_servers(text: str) -> tuple[tuple[str, int], ...]:
    """The servers of `host:port,host:port`; the port is 11211 where it is left out.

    Raises: SettingsError when one is neither a name nor an address, or is named twice. The text is not echoed.
    """
    found: list[tuple[str, int]] = []
    for position, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        match = _SERVER.match(part)
        port = int(match["port"] or DEFAULT_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise SettingsError([f"MEMCACHED_SERVERS: number {position} does not look like host:port"])
        found.append((match["host"].strip("[]"), port))
    if not found or len(set(found)) < len(found):
        raise SettingsError(["MEMCACHED_SERVERS names no server, or one twice"])
    return tuple(found)


def check_redis_url(url: str) -> str:
    """The URL itself.

    Raises: SettingsError when it is not redis://, rediss:// or valkey(s):// with a host.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("redis", "rediss", "valkey", "valkeys") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(["REDIS_URL must look like redis://host:6379/0, or rediss:// for TLS"])
    return url.replace("valkey", "redis", 1) if parts.scheme.startswith("valkey") else url
