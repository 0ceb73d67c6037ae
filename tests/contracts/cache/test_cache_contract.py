"""What every cache backend promises. A backend outside `BACKENDS` does not exist."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agenthub.cache.configuration import CacheSettings, MemcachedSettings
from agenthub.cache.contract import MAX_VALUE_BYTES, Cache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.core.types import EVERY_TENANT, TenantId
from tests.servers.memcached import PASSWORD, USERNAME, Daemon
from tests.servers.redis import RedisServer

SECRET = b"contract-suite-secret-of-32-bytes"


def _shared(memcached: tuple[Daemon, ...] = (), redis_url: str | None = None, **login: Any) -> Cache:
    servers = tuple(("127.0.0.1", server.port) for server in memcached)
    settings = CacheSettings(MemcachedSettings(servers, **login) if servers else None, redis_url)
    return open_cache(settings, lambda: SECRET)


def _redis(server: Daemon) -> Cache:
    assert isinstance(server, RedisServer)
    return _shared(redis_url=server.url())


LOGIN = {"username": USERNAME, "password": PASSWORD}
BACKENDS: dict[str, Callable[[dict[str, Daemon]], Cache]] = {
    "memory": lambda _: open_cache(CacheSettings(max_bytes=32 << 20)),
    "memcached": lambda servers: _shared((servers["memcached"],)),
    "memcached-three": lambda servers: _shared((servers["memcached"], servers["memcached2"], servers["memcached3"])),
    "memcached-ascii": lambda servers: _shared((servers["memcached-ascii"],), **LOGIN),
    "memcached-sasl": lambda servers: _shared((servers["memcached-sasl"],), protocol="sasl", **LOGIN),
    "redis": lambda servers: _redis(servers["redis"]),
    "redis-password": lambda servers: _redis(servers["redis-password"]),
}
KEYS = CacheKeys("contract")
RUN = itertools.count()


def key(*parts: str, kind: str = "kind") -> str:
    return KEYS.key(TenantId(f"tenant-{os.getpid()}-{_run}"), kind, 1, *parts)


_run = 0


@pytest.fixture(params=sorted(BACKENDS))
def cache(request: pytest.FixtureRequest, cache_servers: dict[str, Daemon]) -> Iterator[Cache]:
    global _run  # noqa: PLW0603 (keys of one test are not those of another on the same server)
    _run = next(RUN)
    opened = BACKENDS[request.param](cache_servers)
    yield opened
    opened.close()


def test_what_is_read_is_what_was_written(cache: Cache) -> None:
    items = {key(str(i)): bytes([i]) * i for i in range(200)}
    cache.set_many(items, 60)
    assert cache.get_many([*items, key("absent")]) == items


@pytest.mark.parametrize("value", [b"", b"\x00", b"\r\nEND\r\nset x 0 0 1\r\n1\r\n", bytes(range(256)), b"v" * MAX_VALUE_BYTES])
def test_any_bytes_are_values(cache: Cache, value: bytes) -> None:
    cache.set_many({key("v"): value}, 60)
    assert cache.get_many([key("v")]) == {key("v"): value}


def test_a_value_that_is_too_large_leaves_nothing_old(cache: Cache) -> None:
    cache.set_many({key("v"): b"old"}, 60)
    cache.set_many({key("v"): b"v" * (MAX_VALUE_BYTES + 1), key("w"): b"w"}, 60)
    assert cache.get_many([key("v"), key("w")]) == {key("w"): b"w"}


def test_the_last_write_stays(cache: Cache) -> None:
    cache.set_many({key("v"): b"1"}, 60)
    cache.set_many({key("v"): b"2"}, 60)
    assert cache.get_many([key("v")]) == {key("v"): b"2"}


def test_add_keeps_the_first(cache: Cache) -> None:
    assert cache.add(key("v"), b"1", 60)
    assert not cache.add(key("v"), b"2", 60)
    assert cache.get_many([key("v")]) == {key("v"): b"1"}


def test_of_many_adders_one_is_told_so(cache: Cache) -> None:
    barrier = threading.Barrier(8)

    def race(i: int) -> bool:
        barrier.wait()
        return cache.add(key("race"), str(i).encode(), 60)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sum(won) == 1
    assert cache.get_many([key("race")]) == {key("race"): str(won.index(True)).encode()}


def test_flush_forgets_one_namespace(cache: Cache) -> None:
    cache.set_many({key("v"): b"1", key("v", kind="kind2"): b"2", key("v", kind="other"): b"3"}, 60)
    assert cache.flush(KEYS.namespace("kind", 1))
    assert cache.get_many([key("v"), key("v", kind="kind2"), key("v", kind="other")]) == {
        key("v", kind="kind2"): b"2",
        key("v", kind="other"): b"3",
    }


@pytest.mark.parametrize("ttl_seconds", [0, -1, float("nan")])
def test_every_entry_expires(cache: Cache, ttl_seconds: float) -> None:
    with pytest.raises(ValueError, match="expires"):
        cache.set_many({key("v"): b"1"}, ttl_seconds)
    with pytest.raises(ValueError, match="expires"):
        cache.add(key("v"), b"1", ttl_seconds)


def test_a_very_long_time_is_cut_not_past(cache: Cache) -> None:
    cache.set_many({key("v"): b"1"}, 400 * 86_400)
    assert cache.get_many([key("v")]) == {key("v"): b"1"}


def test_statistics_count(cache: Cache) -> None:
    before = cache.statistics()
    cache.set_many({key("v"): b"1"}, 60)
    cache.get_many([key("v"), key("absent"), key("absent")])
    after = cache.statistics()
    assert (after.hits - before.hits, after.misses - before.misses) == (1, 1)
    assert after.backend in BACKENDS
    assert after.errors == before.errors == 0
    assert [server.ok for server in after.servers] == [True] * len(cache.check())


def test_counters_count_and_are_no_entries(cache: Cache) -> None:
    assert [cache.increment(key("n"), amount, 60) for amount in (1, 1, 5)] == [1, 2, 7]
    assert cache.get_many([key("n")]) == {}
    assert cache.increment(key("m"), 3, 60) == 3


def test_threads_count_together(cache: Cache) -> None:
    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(lambda _: cache.increment(key("n"), 1, 60), range(120)))
    assert sorted(total for total in seen if total is not None) == list(range(1, 121))


def test_an_entry_leaves_when_its_time_is_over(cache: Cache) -> None:
    cache.set_many({key("v"): b"1"}, 1)
    cache.increment(key("n"), 5, 1)
    limit = time.monotonic() + 120
    while cache.get_many([key("v")]) and time.monotonic() < limit:
        time.sleep(0.1)
    assert cache.get_many([key("v")]) == {}
    while (total := cache.increment(key("n"), 1, 60)) != 1 and time.monotonic() < limit and total is not None and total > 5:
        time.sleep(1.1)
    assert total == 1


def test_after_a_flush_new_entries_are_kept(cache: Cache) -> None:
    assert cache.flush(KEYS.namespace("kind", 1))
    cache.set_many({key("v"): b"new"}, 60)
    assert cache.add(key("w"), b"added", 60)
    assert cache.get_many([key("v"), key("w")]) == {key("v"): b"new", key("w"): b"added"}


def test_a_closed_cache_misses(cache: Cache) -> None:
    cache.set_many({key("v"): b"1"}, 60)
    cache.close()
    cache.set_many({key("w"): b"1"}, 60)
    assert not cache.add(key("x"), b"1", 60)
    assert cache.increment(key("n"), 1, 60) is None
    assert not cache.flush(KEYS.namespace("kind", 1)) or cache.statistics().backend == "memory"
    assert cache.get_many([key("v"), key("w"), key("x")]) == {}


def test_threads_read_only_what_was_written(cache: Cache) -> None:
    names = [key(str(i)) for i in range(20)]

    def work(seed: int) -> bool:
        for step in range(200):
            name = names[(seed * 7 + step) % 20]
            cache.set_many({name: name.encode() * (1 + step % 3)}, 60)
            for found, value in cache.get_many(names).items():
                if value.replace(found.encode(), b""):
                    return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_empty_calls_do_nothing(cache: Cache) -> None:
    cache.set_many({}, 60)
    assert cache.get_many([]) == {}
    assert KEYS.key(EVERY_TENANT, "kind", 1, "v") not in cache.get_many([KEYS.key(EVERY_TENANT, "kind", 1, "v")])
