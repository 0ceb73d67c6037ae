"""What every cache backend promises. A backend outside `BACKENDS` does not exist."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from agenthub.cache.configuration import CacheSettings
from agenthub.cache.contract import MAX_VALUE_BYTES, Cache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.open import open_cache
from agenthub.core.types import EVERY_TENANT, TenantId

BACKENDS: dict[str, Callable[[], Cache]] = {"memory": lambda: open_cache(CacheSettings(max_bytes=32 << 20))}
KEYS = CacheKeys("contract")


def key(*parts: str, kind: str = "kind") -> str:
    return KEYS.key(TenantId("t"), kind, 1, *parts)


@pytest.fixture(params=sorted(BACKENDS))
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    opened = BACKENDS[request.param]()
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
    cache.flush(KEYS.namespace("kind", 1))
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


def test_a_closed_cache_misses(cache: Cache) -> None:
    cache.set_many({key("v"): b"1"}, 60)
    cache.close()
    cache.set_many({key("w"): b"1"}, 60)
    assert not cache.add(key("x"), b"1", 60)
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
