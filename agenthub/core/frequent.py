"""Which of many things occur most often, in little memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Frequent(Generic[K]):
    """Counts at most `capacity` things; a new one takes the place and the count of the rarest, so that a frequent one gets in.

    What occurs in more than one of `capacity` cases is always among them (the Space-Saving algorithm). Not for several threads at once.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._counts: dict[K, int] = {}

    def note(self, thing: K) -> None:
        """It occurred once more."""
        counts = self._counts
        if thing in counts or len(counts) < self._capacity:
            counts[thing] = counts.get(thing, 0) + 1
            return
        rarest = min(counts, key=counts.__getitem__)
        counts[thing] = counts.pop(rarest) + 1

    def most(self, limit: int) -> list[tuple[K, int]]:
        """The most frequent with their counts, which are never too low."""
        return sorted(self._counts.items(), key=lambda pair: -pair[1])[:limit]
