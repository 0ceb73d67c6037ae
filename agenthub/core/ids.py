"""Server-made names: sortable ids for entities, random names for files."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID: Final = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}\Z")
ID_LENGTH: Final = 26
ID_PATTERN: Final = "^[0-7][0-9a-hjkmnp-tv-z]{25}$"


def _base32(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))


def new_id() -> str:
    """A lower-case ULID (https://github.com/ulid/spec): 48 bits of milliseconds, 80 random bits, 26 characters.

    Sorts by creation time to the millisecond; order within one millisecond is random.
    """
    return _base32((time.time_ns() // 1_000_000) << 80 | secrets.randbits(80), ID_LENGTH)


def is_id(text: str) -> bool:
    """Whether the text has the form of `new_id`."""
    return _ID.match(text) is not None


def random_name() -> str:
    """26 characters of [0-9a-z] with 130 random bits: a file name that is never made twice (RELIABILITY.md B1)."""
    return _base32(secrets.randbits(130), ID_LENGTH)
