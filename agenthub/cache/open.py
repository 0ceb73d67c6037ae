"""Opening the configured cache, and never another one instead."""

from __future__ import annotations

from agenthub.cache.configuration import CacheSettings
from agenthub.cache.contract import Cache
from agenthub.cache.in_process import InProcessCache
from agenthub.core.errors import SettingsError


def open_cache(settings: CacheSettings) -> Cache:
    """The cache that was asked for: this process's own memory unless a server is configured.

    Raises: SettingsError naming the variables when a cache server is configured; those backends arrive with issue C.
    """
    problems = [
        f"{variable} asks for {server}, a backend that arrives with issue C: unset it, and each process caches in its own memory"
        for variable, server, value in (
            ("MEMCACHED_SERVERS", "memcached", settings.memcached_servers),
            ("REDIS_URL", "Redis", settings.redis_url),
        )
        if value
    ]
    if problems:
        raise SettingsError(problems)
    return InProcessCache(settings.max_bytes)
