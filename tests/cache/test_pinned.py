"""Keys that stay on their one server: whoever can't reach it finds nothing, and never something older elsewhere."""

from __future__ import annotations

from agenthub.cache.configuration import CacheSettings, MemcachedSettings
from agenthub.cache.contract import Cache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.cache.policy import HOT
from agenthub.core.types import EVERY_TENANT
from tests.servers.memcached import Daemon, MemcachedServer

NAMES = [f"mark-{number}" for number in range(60)]
KEYS = {name: CacheKeys("pinned").key(EVERY_TENANT, HOT.name, HOT.version, name) for name in NAMES}


def opened(*ports: int) -> Cache:
    servers = MemcachedSettings(tuple(("127.0.0.1", port) for port in ports))
    return open_cache(CacheSettings(memcached=servers, secret="a secret of 20 bytes"), pinned=True)


def put(cache: Cache, value: bytes) -> None:
    cache.set_many(dict.fromkeys(KEYS.values(), value), 60)


def test_a_lost_servers_keys_are_nowhere_until_it_is_back(cache_servers: dict[str, Daemon], memcached: MemcachedServer) -> None:
    ports = cache_servers["memcached2"].port, memcached.port
    one, other = opened(*ports), opened(*ports)
    put(one, b"old")
    assert other.get_many(list(KEYS.values())) == dict.fromkeys(KEYS.values(), b"old")
    memcached.kill()
    one.get_many(list(KEYS.values()))
    put(one, b"new")
    for cache in (one, other):
        cache.get_many(list(KEYS.values()))
        found = cache.get_many(list(KEYS.values()))
        assert 0 < len(found) < len(KEYS), "no other server takes the lost one's keys"
        assert set(found.values()) == {b"new"}
    memcached.start()
    fresh = opened(*ports)
    assert set(fresh.get_many(list(KEYS.values())).values()) == {b"new"}, "it came back empty, and nothing old with it"
    for cache in (one, other, fresh):
        cache.close()


def test_nothing_is_flushed(cache_servers: dict[str, Daemon]) -> None:
    cache = opened(cache_servers["memcached"].port)
    put(cache, b"here")
    assert not cache.flush(CacheKeys("pinned").namespace(HOT.name, HOT.version))
    assert len(cache.get_many(list(KEYS.values()))) == len(KEYS)
    cache.close()
