"""Many short texts as two arrays: sorted, without repeats, found by halving. Code-point order equals UTF-8 byte order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StringTable:
    """A sorted set of texts. `data` holds them one after another as UTF-8, `offsets` where each begins, and the end."""

    __slots__ = ("_offsets", "_texts", "data", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.integer[Any]]) -> None:
        self.data = data
        self.offsets = offsets
        self._texts = data.data
        self._offsets = offsets.data  # a memory view gives plain numbers, several times faster than an array does

    @classmethod
    def of(cls, texts: Iterable[str]) -> StringTable:
        """The table of these texts; repeats are dropped."""
        return cls.ordered(sorted({encode(text) for text in texts}))

    @classmethod
    def ordered(cls, encoded: Sequence[bytes]) -> StringTable:
        """The table of these texts, which are in order."""
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """The UTF-8 bytes of one text."""
        if not 0 <= index < len(self._offsets) - 1:
            raise IndexError(index)
        return bytes(self._texts[self._offsets[index] : self._offsets[index + 1]])

    def find(self, text: str) -> int:
        """The position of a text, -1 when it isn't there."""
        index = self.lower(text)
        return index if index < len(self) and self[index] == encode(text) else -1

    def lower(self, text: str) -> int:
        """How many texts sort before this one."""
        return bisect_left(self, encode(text))

    def upper(self, text: str) -> int:
        """How many texts sort before this one or equal it."""
        return bisect_right(self, encode(text))

    def beginning(self, prefix: str) -> tuple[int, int]:
        """The position of the first text that begins so, and that behind the last."""
        first = encode(prefix)
        return bisect_left(self, first), bisect_left(self, True, key=lambda text: text[: len(first)] > first)

    def containing(self, part: str) -> NDArray[np.int64]:
        """The positions of the texts that contain `part`, ascending."""
        needle = encode(part)
        if not needle:
            return np.arange(len(self), dtype=np.int64)
        starts = _occurrences(self.data.tobytes(), needle)
        owners = np.searchsorted(self.offsets, starts, side="right") - 1
        inside = starts + len(needle) <= self.offsets[owners + 1]
        return np.unique(owners[inside])

    def sound(self) -> bool:
        """Whether the arrays fit each other, whatever bytes they came from."""
        return (
            len(self.offsets) > 0
            and self.offsets[0] == 0
            and int(self.offsets[-1]) == len(self.data)
            and bool(np.all(self.offsets[1:] >= self.offsets[:-1]))
        )


def encode(text: str) -> bytes:
    """UTF-8, also of lone surrogates, which JSON can carry."""
    return text.encode("utf-8", "surrogatepass")


def _occurrences(data: bytes, needle: bytes) -> NDArray[np.int64]:
    found, position = [], data.find(needle)
    while position >= 0:
        found.append(position)
        position = data.find(needle, position + 1)
    return np.array(found, dtype=np.int64)
