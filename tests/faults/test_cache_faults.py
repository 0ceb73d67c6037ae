"""T14: a cache server that is dead, frozen, slow, flapping, full or lying costs a miss, never an error, a wrong value or a long wait."""

from __future__ import annotations

import logging
import os
import pickle  # noqa: TID251 (what an attacker would put there)
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from pymemcache.client.base import Client
from redis import Redis

from agenthub.cache import fleet as fleet_module
from agenthub.cache.configuration import CacheSettings, MemcachedSettings
from agenthub.cache.contract import Cache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.core.types import TenantId
from tests.servers.memcached import PASSWORD, USERNAME, Daemon, MemcachedServer
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer

KEYS = CacheKeys("faults")
SECRET = b"the secret of this deployment"
TENANT = TenantId(f"t{os.getpid()}")


def key(*parts: str) -> str:
    return KEYS.key(TENANT, "kind", 1, *parts)


@contextmanager
def opened(*ports: int, redis_url: str | None = None, **login: Any) -> Iterator[Cache]:
    memcached = MemcachedSettings(tuple(("127.0.0.1", port) for port in ports), **login) if ports else None
    cache = open_cache(CacheSettings(memcached, redis_url), lambda: SECRET)
    yield cache
    cache.close()


def eventually(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def written(cache: Cache, name: str) -> bool:
    cache.set_many({key(name): name.encode()}, 60)
    return cache.get_many([key(name)]) == {key(name): name.encode()}


class Load:
    """Threads that read and write known values; every value read must be the one that belongs to its key."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._stop = threading.Event()
        self.wrong: list[str] = []
        self.seconds: list[float] = []
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(4)]

    def _work(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._stop.is_set():
            names = [f"load-{dice.randrange(300)}" for _ in range(5)]
            started = time.perf_counter()
            found = self._cache.get_many([key(name) for name in names])
            self._cache.set_many({key(names[0]): names[0].encode()}, 60)
            self.seconds.append(time.perf_counter() - started)
            self.wrong += [name for name in names if found.get(key(name), name.encode()) != name.encode()]
            time.sleep(0.002)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)


def outage(cache: Cache, break_it: Callable[[], None], mend_it: Callable[[], object]) -> None:
    """No wrong value and no exception while it is broken; in use again afterwards. How often it was asked in vain is bounded."""
    assert written(cache, "before")
    with Load(cache) as load:
        time.sleep(0.3)
        break_it()
        errors_before = cache.statistics().errors
        time.sleep(2)
        errors = cache.statistics().errors - errors_before
        during = cache.get_many([key("before")])
        mend_it()
        eventually(lambda: written(cache, "after"), "the mended server is not used")
    assert load.wrong == []
    assert during in ({}, {key("before"): b"before"})
    assert errors <= 16, "the breaker did not open: threads go on asking a broken server"


def test_a_killed_server_costs_misses_and_comes_back(memcached: MemcachedServer) -> None:
    with opened(memcached.port) as cache:
        outage(cache, memcached.kill, memcached.start)


def test_a_frozen_server_is_left_alone(memcached: MemcachedServer) -> None:
    with opened(memcached.port) as cache:
        outage(cache, memcached.pause, memcached.resume)


def test_a_slow_server_is_left_alone(memcached: MemcachedServer) -> None:
    proxy = Proxy(("127.0.0.1", memcached.port))

    def slow(seconds: float) -> None:
        proxy.latency_seconds = seconds

    with opened(proxy.port) as cache:
        outage(cache, lambda: slow(2.0), lambda: slow(0.0))
    proxy.close()


def test_a_server_that_swallows_everything_is_left_alone(memcached: MemcachedServer) -> None:
    proxy = Proxy(("127.0.0.1", memcached.port))

    def mode(name: Any) -> None:
        proxy.mode = name
        if name == "pass":
            proxy.reset_all()

    with opened(proxy.port) as cache:
        outage(cache, lambda: mode("blackhole"), lambda: mode("pass"))
    proxy.close()


def test_a_killed_redis_costs_misses_and_comes_back() -> None:
    redis = RedisServer().start()
    with opened(redis_url=redis.url()) as cache:
        outage(cache, redis.kill, redis.start)
    redis.destroy()


def test_a_killed_sasl_server_costs_misses_and_comes_back() -> None:
    server = MemcachedServer("sasl").start()
    with opened(server.port, username=USERNAME, password=PASSWORD, protocol="sasl") as cache:
        outage(cache, server.kill, server.start)
    server.destroy()


def test_a_flapping_server_gets_longer_pauses_and_no_wrong_value(memcached: MemcachedServer) -> None:
    with opened(memcached.port) as cache, Load(cache) as load:
        for _ in range(6):
            memcached.kill()
            time.sleep(0.5)
            memcached.start()
            time.sleep(0.5)
        eventually(lambda: written(cache, "after"), "the server is not used after it stopped flapping")
        errors = cache.statistics().errors
    assert load.wrong == []
    assert errors <= 6 * 8, "every flap may cost each connection one error, no more"


def test_one_of_three_servers_dies_and_the_others_take_its_keys(cache_servers: dict[str, Daemon], memcached: MemcachedServer) -> None:
    with opened(cache_servers["memcached2"].port, memcached.port, cache_servers["memcached3"].port) as cache:
        names = [f"spread-{i}" for i in range(200)]
        cache.set_many({key(name): name.encode() for name in names}, 60)
        assert len(cache.get_many([key(name) for name in names])) == 200
        memcached.kill()
        cache.get_many([key(name) for name in names])
        left = cache.get_many([key(name) for name in names])
        assert 60 < len(left) < 200, "only the dead server's entries are gone"
        cache.set_many({key(name): name.encode() for name in names}, 60)
        assert len(cache.get_many([key(name) for name in names])) == 200


def test_a_full_server_evicts_and_stays_right() -> None:
    server = MemcachedServer(memory_megabytes=4).start()
    with opened(server.port) as cache:
        for i in range(400):
            cache.set_many({key(f"large-{i}"): f"large-{i}".encode() * 3000}, 60)
        found = cache.get_many([key(f"large-{i}") for i in range(400)])
        assert 0 < len(found) < 400
        assert all(found[key(f"large-{i}")] == f"large-{i}".encode() * 3000 for i in range(400) if key(f"large-{i}") in found)
        evictions = cache.statistics().evictions
        assert evictions is not None and evictions > 0
    server.destroy()


def test_a_value_the_server_has_no_room_for_is_lost_alone() -> None:
    """A server may take less than we think (-I): nothing old stays in its place, the rest of the batch is kept, nobody is left alone."""
    server = MemcachedServer(largest_item="512k").start()
    with opened(server.port) as cache:
        cache.set_many({key("large"): b"old", key("before"): b"b"}, 60)
        cache.set_many({key("before"): b"before", key("large"): bytes(600_000), key("after"): b"after"}, 60)
        assert not cache.add(key("larger"), bytes(600_000), 60)
        found = cache.get_many([key("large"), key("before"), key("after"), key("larger")])
        assert found == {key("before"): b"before", key("after"): b"after"}
        assert cache.statistics().errors == 2
        assert written(cache, "still used")
    server.destroy()


def test_a_redis_without_room_refuses_writes_and_answers_reads() -> None:
    redis = RedisServer().start()
    with opened(redis_url=redis.url()) as cache:
        assert written(cache, "early")
        Redis.from_url(redis.url()).config_set("maxmemory", "1mb")  # and the default policy: noeviction
        cache.set_many({key("late"): bytes(100_000)}, 60)
        assert cache.get_many([key("early"), key("late")]) == {key("early"): b"early"}
        assert cache.increment(key("n"), 1, 60) is None
        assert not cache.add(key("a"), b"v", 60)
        Redis.from_url(redis.url()).config_set("maxmemory", "100mb")
        assert written(cache, "again"), "it was never left alone"
    redis.destroy()


@pytest.mark.parametrize(("server", "protocol"), [("memcached-sasl", "ascii"), ("memcached-ascii", "sasl")])
def test_the_other_log_in_is_said_and_hangs_nobody(cache_servers: dict[str, Daemon], server: str, protocol: Any) -> None:
    started = time.monotonic()
    with opened(cache_servers[server].port, username=USERNAME, password=PASSWORD, protocol=protocol) as cache:
        assert not cache.check()[0].ok
        assert not written(cache, "v")
    assert time.monotonic() - started < 5


class _Marker:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_poison_on_the_server_is_a_miss(memcached: MemcachedServer, tmp_path: Path) -> None:
    """Every stored value is replaced by garbage, a foreign value and a pickle, with every flag a client may follow."""
    marker = tmp_path / "marker"
    poisons = [b"", b"garbage", b"5", os.urandom(1536), pickle.dumps(_Marker(marker)), b"\x01" + bytes(1552)]
    with opened(memcached.port) as cache:
        raw = Client(("127.0.0.1", memcached.port), default_noreply=False)
        names = [f"victim-{i}" for i in range(64)]
        for flags in range(32):
            cache.set_many({key(name): name.encode() for name in names}, 60)
            edition = raw.get(f"{KEYS.namespace('kind', 1)}/edition").decode()
            for name, poison in zip(names, poisons * 11, strict=False):
                raw.set(f"{key(name)}~{edition}", poison, flags=flags)
            assert cache.get_many([key(name) for name in names]) == {}
        raw.close()
        assert cache.statistics().forged == 32 * 64
    assert not marker.exists()


def test_poison_is_a_miss_over_sasl_too(cache_servers: dict[str, Daemon], tmp_path: Path) -> None:
    from agenthub.cache.memcached_sasl import SaslNode  # noqa: PLC0415 (its driver is loaded only where it is used)

    settings = MemcachedSettings((), USERNAME, PASSWORD, "sasl")
    port = cache_servers["memcached-sasl"].port
    node = SaslNode("127.0.0.1", port, settings)
    with opened(port, username=USERNAME, password=PASSWORD, protocol="sasl") as cache:
        cache.set_many({key("v"): b"value"}, 60)
        edition = node.get_many([f"{KEYS.namespace('kind', 1)}/edition"]).popitem()[1].decode()
        node._lines.raw_data = False  # the package now pickles what it is given, and marks it so
        node._lines.set(f"{key('v')}~{edition}", _Marker(tmp_path / "marker"), 60)
        assert cache.get_many([key("v")]) == {}
    assert not (tmp_path / "marker").exists()


def test_a_poisoned_edition_costs_misses_only(memcached: MemcachedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "EDITION_SECONDS", 0.0)
    with opened(memcached.port) as cache:
        assert written(cache, "v")
        raw = Client(("127.0.0.1", memcached.port), default_noreply=False)
        raw.set(f"{KEYS.namespace('kind', 1)}/edition", b"x\r\nflush_all\r\n")
        assert written(cache, "v")


@pytest.mark.parametrize(("login", "protocol"), [("ascii", "ascii"), ("sasl", "sasl")])
def test_a_wrong_password_is_said_and_not_hidden(
    cache_servers: dict[str, Daemon], login: str, protocol: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.ERROR, "agenthub.cache"),
        opened(cache_servers[f"memcached-{login}"].port, username=USERNAME, password="wrong", protocol=protocol) as cache,
    ):
        (server,) = cache.check()
        assert not server.ok and server.reason is not None
        assert "password" in server.reason
        assert "password" in caplog.text
        assert "wrong" not in caplog.text
        assert cache.get_many([key("v")]) == {}


def test_no_password_where_one_is_wanted_is_said(cache_servers: dict[str, Daemon]) -> None:
    with opened(cache_servers["memcached-ascii"].port) as cache:
        assert not cache.check()[0].ok
        assert not written(cache, "v")


def test_a_wrong_redis_password_is_said(cache_servers: dict[str, Daemon], caplog: pytest.LogCaptureFixture) -> None:
    redis = cache_servers["redis-password"]
    assert isinstance(redis, RedisServer)
    with caplog.at_level(logging.ERROR, "agenthub.cache"), opened(redis_url=redis.url("wrong")) as cache:
        assert cache.check()[0].reason == "the server refuses this user name and password"
        assert "wrong" not in caplog.text
    with opened(redis_url=redis.url("").replace(":@", "")) as cache:
        assert not cache.check()[0].ok


def test_an_unreachable_server_at_the_start_is_said_and_used_when_it_comes(
    memcached: MemcachedServer, caplog: pytest.LogCaptureFixture
) -> None:
    memcached.kill()
    with caplog.at_level(logging.ERROR, "agenthub.cache"), opened(memcached.port) as cache:
        assert "can't be used" in caplog.text
        assert not written(cache, "v")
        memcached.start()
        eventually(lambda: written(cache, "v"), "the server that came is not used")


def test_a_forked_process_makes_connections_of_its_own(memcached: MemcachedServer) -> None:
    with opened(memcached.port) as cache:
        assert written(cache, "parent")
        child = os.fork()
        if child == 0:
            right = all(cache.get_many([key("parent")]) == {key("parent"): b"parent"} and written(cache, f"c{i}") for i in range(200))
            os._exit(0 if right else 1)
        assert all(written(cache, f"p{i}") for i in range(200))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_many_threads_share_one_cache_without_an_error(memcached: MemcachedServer) -> None:
    with opened(memcached.port) as cache:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(lambda i: written(cache, str(i)), range(2000)))
        assert cache.statistics().errors == 0


def test_a_flush_by_one_process_holds_for_another(memcached: MemcachedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(memcached.port) as mine, opened(memcached.port) as theirs:
        assert written(mine, "v")
        assert theirs.get_many([key("v")])
        assert mine.flush(KEYS.namespace("kind", 1))
        monkeypatch.setattr(fleet_module, "EDITION_SECONDS", 0.0)
        assert theirs.get_many([key("v")]) == {}
        assert written(theirs, "w")
        assert mine.get_many([key("w")])
