"""Passwords: which are acceptable, and how they are hashed without eating the machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from agenthub.core.errors import InvalidInput, RateLimited

MIN_CHARACTERS: Final = 8
MAX_CHARACTERS: Final = 256

# Argon2id with 46 MiB, one pass, one lane: the first of OWASP's equally strong settings and the floor of RELIABILITY.md D2-5.
# Measured on the 2-core machine: 57 ms and 46 MiB a hash; two at a time bound a process to 92 MiB (docs/adr/0009-signing-in.md).
MEMORY_KIB: Final = 47104
PASSES: Final = 1
LANES: Final = 1
CONCURRENT_HASHES: Final = 2
WAITING_HASHES: Final = 16
WAIT_SECONDS: Final = 5.0

_UNKNOWN_USER_HASH: Final = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${'A' * 22}${'A' * 43}"
"""A well-formed hash that no password has: verifying against it takes as long as against a real one."""


@cache
def _common_passwords() -> frozenset[str]:
    text = (files("agenthub.repositories.platform") / "common_passwords.txt").read_text("utf-8")
    return frozenset(text.splitlines())


def check_new_password(password: str, email: str, *, field: str = "password") -> None:
    """Refuse a password that is too short, too long, common or the user's own address. There are no rules of composition.

    Raises: InvalidInput with `field`.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidInput(f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters", field=field)
    lowered = password.lower()
    if lowered in _common_passwords():
        raise InvalidInput("this password is among the most common ones; choose another", field=field)
    if lowered in (email.lower(), email.lower().partition("@")[0]):
        raise InvalidInput("a password must differ from the e-mail address", field=field)


class PasswordHashing:
    """Hashes and verifies, a few at a time. One per process: its semaphores bound the process's memory."""

    def __init__(self, concurrent: int = CONCURRENT_HASHES, waiting: int = WAITING_HASHES, wait_seconds: float = WAIT_SECONDS) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16, type=Type.ID)
        self._running = threading.BoundedSemaphore(concurrent)
        self._present = threading.BoundedSemaphore(concurrent + waiting)
        self._wait_seconds = wait_seconds

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The right to hash, held until the block ends.

        Raises: RateLimited when too many others wait or no turn came in time.
        """
        busy = RateLimited("too many sign-ins at once; try again", retry_after_seconds=1.0)
        if not self._present.acquire(blocking=False):
            raise busy
        try:
            if not self._running.acquire(timeout=self._wait_seconds):
                raise busy
            try:
                yield Turn(self._hasher)
            finally:
                self._running.release()
        finally:
            self._present.release()

    def hash(self, password: str) -> str:
        """The hash to store.

        Raises: RateLimited when too many others wait.
        """
        with self.turn() as turn:
            return turn.hash(password)


class Turn:
    """Hashing while it is one's turn."""

    def __init__(self, hasher: PasswordHasher) -> None:
        self._hasher = hasher

    def hash(self, password: str) -> str:
        """The hash to store, with a fresh salt."""
        return self._hasher.hash(password)

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password has this hash. None stands for a user who doesn't exist: False after the same work."""
        try:
            self._hasher.verify(password_hash or _UNKNOWN_USER_HASH, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)


HASHING: Final = PasswordHashing()
"""The process's one."""
