"""Opening the configured cache, and never another one instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agenthub.cache.configuration import CacheSettings, MemcachedSettings, check_redis_url
from agenthub.cache.contract import Cache
from agenthub.cache.in_process import InProcessCache
from agenthub.cache.sealed import SealedCache
from agenthub.core.errors import SettingsError
from agenthub.core.observe import Observer

if TYPE_CHECKING:
    from agenthub.cache.server import Server

_log: Final = logging.getLogger("agenthub.cache")


def open_cache(
    settings: CacheSettings, secret: Callable[[], bytes] | None = None, observer: Observer | None = None, *, pinned: bool = False
) -> Cache:
    """The cache that was asked for: this process's own memory unless a server is configured. With `pinned` no key moves to another
    server than its own (cache/pinned.py).

    `secret` gives what signs the values on servers where AGENTHUB_CACHE_KEY is not set; all processes must get the same. A server that
    can't be used is said in the log and in `Cache.check`; the process works without it. `observer` is told of what fails.

    Raises: SettingsError when values on servers can't be signed, or the settings contradict each other.
    """
    if not settings.shared:
        return InProcessCache(settings.max_bytes)
    key = settings.secret.encode() if settings.secret else secret() if secret else None
    if key is None:
        raise SettingsError(["AGENTHUB_CACHE_KEY is needed to sign what is kept on cache servers"])
    from agenthub.cache.fleet import Fleet
    from agenthub.cache.pinned import PinnedFleet

    name, servers = _memcached(settings.memcached) if settings.memcached else _redis(settings)
    opened = (PinnedFleet if pinned else Fleet)(name, servers, observer)
    cache = SealedCache(opened, key, observer)
    for server in cache.check():
        if not server.ok:
            _log.error("cache server %s can't be used: %s; what it would hold is computed each time", server.address, server.reason)
    return cache


def _memcached(settings: MemcachedSettings) -> tuple[str, Sequence[Server]]:
    from agenthub.cache.server import Server

    _check_authorities(settings.ca_file)
    if settings.protocol == "sasl":
        from agenthub.cache.memcached_sasl import SaslNode as Node
    else:
        from agenthub.cache.memcached import MemcachedNode as Node  # type: ignore[assignment]
    servers = [
        Server(f"{host}:{port}", lambda host=host, port=port: Node(host, port, settings))  # type: ignore[misc]
        for host, port in settings.servers
    ]
    return "memcached", servers


def _redis(settings: CacheSettings) -> tuple[str, Sequence[Server]]:
    from agenthub.cache.redis_server import RedisNode
    from agenthub.cache.server import Server

    checked = check_redis_url(settings.redis_url or "")
    _check_authorities(settings.redis_ca_file)
    parts = urlsplit(checked)
    return "redis", [Server(f"{parts.hostname}:{parts.port or 6379}", lambda: RedisNode(checked, settings.redis_ca_file))]


def _check_authorities(ca_file: str | None) -> None:
    """Raises: SettingsError, now and not at the first request, when the file can't be used."""
    from agenthub.cache.tls import client_context

    if ca_file is not None:
        client_context(ca_file)
