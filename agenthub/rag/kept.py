"""Things a process keeps because they are costly to make: made once however many threads ask, least recently used dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Immutable values by key, up to a total size. Dropping only lets go: whoever still uses a value keeps it alive."""

    def __init__(self, capacity: int, size_of: Callable[[V], int], dropped: Callable[[K], None] | None = None) -> None:
        """`dropped` is called, without a lock held, for every key let go for lack of room. The newest value always stays."""
        self._capacity = capacity
        self._size_of = size_of
        self._dropped = dropped
        self._values: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, Future[V]] = {}
        self._size = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The total size of the values kept."""
        return self._size

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, made by this thread or awaited from the one that is at it.

        Raises: what `make` raises, in all threads that waited for it; the next caller tries again.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            future = self._making.get(key)
            if future is None:
                mine = self._making[key] = Future()
        return future.result() if future is not None else self._make(key, mine, make)

    def present(self) -> list[K]:
        """The keys of the values kept, least recently used first."""
        with self._lock:
            return list(self._values)

    def forget(self, condition: Callable[[K, V], bool]) -> None:
        """Let go of the values this is true for."""
        with self._lock:
            for key in [key for key, value in self._values.items() if condition(key, value)]:
                self._size -= self._size_of(self._values.pop(key))

    def _make(self, key: K, future: Future[V], make: Callable[[], V]) -> V:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._values[key] = value
            self._size += self._size_of(value)
            dropped = self._shrink()
        future.set_result(value)
        if self._dropped is not None:
            for old in dropped:
                self._dropped(old)
        return value

    def _shrink(self) -> list[K]:
        dropped = []
        while self._size > self._capacity and len(self._values) > 1:
            key, value = self._values.popitem(last=False)
            self._size -= self._size_of(value)
            dropped.append(key)
        return dropped
