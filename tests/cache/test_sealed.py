"""What others put into the cache is a miss: garbage, foreign values, values of another key, a pickle."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 (what an attacker would put there)
from pathlib import Path

import pytest

from agenthub.cache.contract import SEAL_BYTES
from agenthub.cache.in_process import InProcessCache
from agenthub.cache.keys import CacheKeys
from agenthub.cache.sealed import SealedCache
from agenthub.core.types import TenantId

KEYS = CacheKeys()
KEY = KEYS.key(TenantId("t"), "kind", 1, "a")
OTHER = KEYS.key(TenantId("u"), "kind", 1, "a")
SECRET = b"0123456789abcdef"


class Marker:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def sealed() -> tuple[SealedCache, InProcessCache]:
    inner = InProcessCache(1 << 20)
    return SealedCache(inner, SECRET), inner


def test_what_was_sealed_is_read_and_counted_once() -> None:
    cache, inner = sealed()
    cache.set_many({KEY: b"value"}, 60)
    assert cache.get_many([KEY, OTHER]) == {KEY: b"value"}
    assert len(inner.get_many([KEY])[KEY]) == len(b"value") + SEAL_BYTES


@pytest.mark.parametrize(
    "value", [b"", b"\x01", b"\x01" + bytes(16), b"\x01" + bytes(16) + b"value", b"garbage" * 100, b"\x02" + bytes(40)]
)
def test_garbage_is_a_miss(value: bytes) -> None:
    cache, inner = sealed()
    inner.set_many({KEY: value}, 60)
    assert cache.get_many([KEY]) == {}
    assert (cache.statistics().forged, cache.statistics().hits, cache.statistics().misses) == (1, 0, 1)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    cache, inner = sealed()
    inner.set_many({KEY: pickle.dumps(Marker(tmp_path / "marker"))}, 60)
    assert cache.get_many([KEY]) == {}
    assert not (tmp_path / "marker").exists()


def test_every_changed_bit_is_noticed() -> None:
    cache, inner = sealed()
    cache.set_many({KEY: b"value"}, 60)
    stored = inner.get_many([KEY])[KEY]
    for bit in range(len(stored) * 8):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        inner.set_many({KEY: bytes(damaged)}, 60)
        assert cache.get_many([KEY]) == {}, bit


def test_a_value_moved_to_another_key_is_a_miss() -> None:
    cache, inner = sealed()
    cache.set_many({KEY: b"of tenant t"}, 60)
    inner.set_many({OTHER: inner.get_many([KEY])[KEY]}, 60)
    assert cache.get_many([OTHER]) == {}


def test_another_deployments_secret_opens_nothing() -> None:
    cache, inner = sealed()
    cache.set_many({KEY: b"value"}, 60)
    assert SealedCache(inner, b"another secret 16b").get_many([KEY]) == {}


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        SealedCache(InProcessCache(0), b"short")
