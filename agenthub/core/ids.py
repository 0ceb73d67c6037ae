"""Server-made names: sortable ids for entities, random names for files."""

from __future__ import annotations

import re
import secrets
import threading
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}\Z")
ID_LENGTH: Final = 26
ID_PATTERN: Final = "^[0-7][0-9a-hjkmnp-tv-z]{25}$"


def _base32(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))


class _Sequence:
    """The last id of this process: the next one is greater, also within a millisecond and when the clock steps back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def after(self, fresh: int) -> int:
        with self._lock:
            self._last = fresh if fresh > self._last else self._last + 1 + secrets.randbits(_STEP_BITS)
            return self._last


_STEP_BITS: Final = 48
_sequence: Final = _Sequence()


def new_id() -> str:
    """A lower-case ULID (https://github.com/ulid/spec): 48 bits of milliseconds, 80 random bits, 26 characters.

    Sorts by creation: within one process each is greater than the one before, between processes to the millisecond.
    """
    return _base32(_sequence.after((time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)), ID_LENGTH)


def is_id(text: str) -> bool:
    """Whether the text has the form of `new_id`."""
    return _ID.match(text) is not None


def random_name() -> str:
    """26 characters of [0-9a-z] with 130 random bits: a file name that is never made twice (RELIABILITY.md B1)."""
    return _base32(secrets.randbits(130), ID_LENGTH)
