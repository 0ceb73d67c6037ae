"""Searchers that newer ones have replaced: how long they stay for requests under way, and what goes with them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
SearcherKey = tuple[str, int, int, str]
"""Knowledge base, epoch, generation, manifest hash."""


class Superseded:
    """Replaced searchers, oldest first, with the opened segments they use. Safe to share between threads."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, SearcherKey, AbstractSet[str]]] = deque()
        self._known: set[SearcherKey] = set()
        self._look_at = 0.0
        self._lock = threading.Lock()

    def add(self, key: SearcherKey, segment_keys: AbstractSet[str]) -> None:
        """A searcher that has a successor; told again, it changes nothing."""
        with self._lock:
            if key not in self._known:
                self._known.add(key)
                self._waiting.append((time.monotonic() + GRACE_SECONDS, key, segment_keys))

    def due(self) -> bool:
        """Whether some have waited long enough. Costs next to nothing; true at most once a second."""
        if not self._waiting or time.monotonic() < self._look_at:
            return False
        now = time.monotonic()
        self._look_at = now + _LOOK_SECONDS
        return self._waiting[0][0] <= now

    def take(self) -> tuple[set[SearcherKey], set[str]]:
        """Those that have waited long enough, and the segments they use. They are forgotten here."""
        keys: set[SearcherKey] = set()
        segments: set[str] = set()
        for key, segment_keys in self._ready():
            keys.add(key)
            segments |= segment_keys
        return keys, segments

    def _ready(self) -> Iterator[tuple[SearcherKey, AbstractSet[str]]]:
        now = time.monotonic()
        with self._lock:
            while self._waiting and self._waiting[0][0] <= now:
                _, key, segment_keys = self._waiting.popleft()
                self._known.discard(key)
                yield key, segment_keys
