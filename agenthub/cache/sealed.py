"""Values signed for the key they stand under: what a server, a neighbour or an intruder put there is a miss, and never parsed."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from agenthub.cache.contract import SEAL_BYTES, Cache, CacheStatistics, ServerStatistics
from agenthub.cache.keys import kind_of
from agenthub.core.observe import Observer, Unobserved

_FORMAT: Final = b"\x01"
_MAC_BYTES: Final = SEAL_BYTES - len(_FORMAT)


class SealedCache:
    """Implements `Cache` before another one. Counters pass unsigned: a lying server could only change how much is let in."""

    def __init__(self, inner: Cache, secret: bytes, observer: Observer | None = None) -> None:
        """`observer` is told of values that are not ours: `cache_errors_total`, reason `forged`.

        Raises: ValueError when the secret has fewer than 16 bytes.
        """
        if len(secret) < 16:
            raise ValueError("a secret of at least 16 bytes is needed")
        self._inner = inner
        self._key = hashlib.blake2b(secret, digest_size=32, person=b"agenthub-cache").digest()
        self._observer: Observer = observer or Unobserved()
        self._lock = threading.Lock()
        self._forged = 0

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `Cache.get_many`."""
        found = self._inner.get_many(keys)
        opened = {key: value[SEAL_BYTES:] for key, value in found.items() if self._genuine(key, value)}
        if len(opened) < len(found):
            with self._lock:
                self._forged += len(found) - len(opened)
            self._observer.count("cache_errors_total", len(found) - len(opened), kind=kind_of(keys[0]), reason="forged")
        return opened

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """See `Cache.set_many`."""
        self._inner.set_many({key: self._seal(key, value) for key, value in items.items()}, ttl_seconds)

    def add(self, key: str, value: bytes, ttl_seconds: float) -> bool:
        """See `Cache.add`."""
        return self._inner.add(key, self._seal(key, value), ttl_seconds)

    def increment(self, key: str, amount: int, ttl_seconds: float) -> int | None:
        """See `Cache.increment`."""
        return self._inner.increment(key, amount, ttl_seconds)

    def flush(self, namespace: str) -> bool:
        """See `Cache.flush`."""
        return self._inner.flush(namespace)

    def statistics(self) -> CacheStatistics:
        """See `Cache.statistics`: what was forged counts as a miss too."""
        held = self._inner.statistics()
        return replace(held, hits=held.hits - self._forged, misses=held.misses + self._forged, forged=self._forged)

    def check(self) -> tuple[ServerStatistics, ...]:
        """See `Cache.check`."""
        return self._inner.check()

    def close(self) -> None:
        """See `Cache.close`."""
        self._inner.close()

    def _seal(self, key: str, value: bytes) -> bytes:
        return _FORMAT + self._mac(key, value) + value

    def _genuine(self, key: str, sealed: bytes) -> bool:
        if len(sealed) < SEAL_BYTES or sealed[:1] != _FORMAT:
            return False
        return hmac.compare_digest(sealed[1:SEAL_BYTES], self._mac(key, sealed[SEAL_BYTES:]))

    def _mac(self, key: str, value: bytes) -> bytes:
        """Keyed BLAKE2b over the key, its length and the value."""
        name = key.encode()
        mac = hashlib.blake2b(len(name).to_bytes(4, "big") + name, digest_size=_MAC_BYTES, key=self._key)
        mac.update(value)
        return mac.digest()
