"""Slows down guessing of passwords without locking anyone out (docs/adr/0009-signing-in.md).

Three counters in rows that all replicas share: failures of an account from one address, of an address over all accounts, of an
account from everywhere. An attempt is counted before the password is looked at and taken back when it was right, so nothing that
fails in between is a free guess.
"""

from __future__ import annotations

import hashlib
import ipaddress
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from agenthub.core.clock import Clock
from agenthub.core.errors import AgentHubError, AlreadyExists, NotFound, RateLimited, VersionConflict
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Compare, DeleteWhere, Insert, Storage, Table, Update, Write

FREE_FAILURES: Final = ((100, 1), (20, 3), (0, 5))
"""How many failures an address has free on an account, by how many the account saw from everywhere within its window."""

MAX_DELAY: Final = timedelta(minutes=15)
PAIR_LIFE: Final = timedelta(hours=24)
ACCOUNT_WINDOW: Final = timedelta(hours=1)
ADDRESS_WINDOW: Final = timedelta(minutes=15)
ADDRESS_FAILURES: Final = 100
KNOWN_LIFE: Final = timedelta(days=30)
"""How long an address from which an account was signed in to is known: other people's failures don't count against it."""

_ATTEMPTS: Final = 8
_PAUSE_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class LoginCounter:
    """Failures under one key, the hex SHA-256 of what is counted. The window of a pair moves with each failure."""

    id: str
    failures: int
    last_at: datetime
    window_ends_at: datetime
    known_until: datetime | None
    expires_at: datetime
    version: int = 1


LOGIN_COUNTERS: Final = Table.of("login_counters", LoginCounter, tenant=None, indexes=[("expires_at",)])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One counted attempt: the keys it was counted under."""

    pair: str
    address: str
    account: str


def attempt_of(account: str, address: str) -> Attempt:
    """The keys of an attempt at an account (a normalised e-mail address) from a network address; IPv6 counts by /64."""
    network = _network(address)
    return Attempt(_key("pair", account, network), _key("address", network), _key("account", account))


class LoginThrottle:
    """Admits attempts to sign in."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock

    def check(self, attempt: Attempt) -> None:
        """Return if the attempt would be admitted now; counts nothing.

        Raises: RateLimited with `retry_after_seconds`.
        """
        _refuse_early(self._counters(attempt), attempt, self._clock.now())

    def admit(self, attempt: Attempt) -> None:
        """Count the attempt as a failure, until `forgive` takes it back.

        Raises: RateLimited when it comes too early or can't be counted now; StorageUnavailable.
        """
        for round_ in range(_ATTEMPTS):
            now = self._clock.now()
            counters = self._counters(attempt)
            _refuse_early(counters, attempt, now)
            with suppress(AlreadyExists, NotFound, VersionConflict):
                self._storage.commit(_counting(counters, attempt, now))
                return
            time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**round_))  # noqa: S311 - jitter, no secret
        raise RateLimited("too many sign-ins at once; try again", retry_after_seconds=1.0)

    def forgive(self, attempt: Attempt) -> None:
        """The password was right: forget the pair's failures, remember its address, and take the attempt back elsewhere.

        What can't be forgiven now expires by itself: nothing is raised.
        """
        with suppress(AgentHubError):
            self._forgive(attempt)

    def sweep(self) -> None:
        """Forget expired counters."""
        self._storage.commit([DeleteWhere(LOGIN_COUNTERS, EVERY_TENANT, Compare("expires_at", "le", self._clock.now()))])

    def _forgive(self, attempt: Attempt) -> None:
        for _ in range(_ATTEMPTS):
            now = self._clock.now()
            writes = _forgiving(self._counters(attempt), attempt, now)
            with suppress(NotFound, VersionConflict):
                if writes:
                    self._storage.commit(writes)
                return

    def _counters(self, attempt: Attempt) -> Mapping[str, LoginCounter]:
        rows = self._storage.get_many(LOGIN_COUNTERS, EVERY_TENANT, [attempt.pair, attempt.address, attempt.account])
        return {key: LoginCounter(**row) for key, row in rows.items()}


def _refuse_early(counters: Mapping[str, LoginCounter], attempt: Attempt, now: datetime) -> None:
    pair = counters.get(attempt.pair)
    known = pair is not None and pair.known_until is not None and now < pair.known_until
    address = counters.get(attempt.address)
    waits = [_pair_wait(pair, 0 if known else _failures(counters.get(attempt.account), now), now)]
    if not known and address is not None and _failures(address, now) >= ADDRESS_FAILURES:
        waits.append((address.window_ends_at - now).total_seconds())
    if max(waits) > 0:
        raise RateLimited("too many failed attempts; try again later", retry_after_seconds=max(waits))


def _pair_wait(pair: LoginCounter | None, account_failures: int, now: datetime) -> float:
    """Seconds until the next attempt: none while failures are free, then 1, 2, 4, … up to 15 minutes after the last one."""
    free = next(free for least, free in FREE_FAILURES if account_failures >= least)
    over = _failures(pair, now) - free
    if pair is None or over < 0:
        return 0.0
    delay = min(MAX_DELAY.total_seconds(), 2.0 ** min(over, 20))
    return delay - (now - pair.last_at).total_seconds()


def _failures(counter: LoginCounter | None, now: datetime) -> int:
    return counter.failures if counter is not None and now < counter.window_ends_at else 0


def _counting(counters: Mapping[str, LoginCounter], attempt: Attempt, now: datetime) -> list[Write]:
    writes = [_counted(counters.get(attempt.pair), attempt.pair, now, PAIR_LIFE, moving=True)]
    writes.append(_counted(counters.get(attempt.address), attempt.address, now, ADDRESS_WINDOW))
    writes.append(_counted(counters.get(attempt.account), attempt.account, now, ACCOUNT_WINDOW))
    return sorted(writes, key=_lock_order)


def _lock_order(write: Write) -> str:
    """Rows are always locked in the same order, so that concurrent attempts can't deadlock."""
    return str(write.row["id"]) if isinstance(write, Insert) else getattr(write, "key", "")


def _counted(counter: LoginCounter | None, key: str, now: datetime, life: timedelta, *, moving: bool = False) -> Write:
    if counter is None:
        return Insert(LOGIN_COUNTERS, row_of(LoginCounter(key, 1, now, now + life, None, now + life)))
    goes_on = now < counter.window_ends_at
    ends = counter.window_ends_at if goes_on and not moving else now + life
    return _changed(
        replace(
            counter,
            failures=counter.failures + 1 if goes_on else 1,
            last_at=now,
            window_ends_at=ends,
            expires_at=max(ends, counter.known_until or ends),
        )
    )


def _forgiving(counters: Mapping[str, LoginCounter], attempt: Attempt, now: datetime) -> list[Write]:
    known_until = now + KNOWN_LIFE
    writes: list[Write] = []
    if pair := counters.get(attempt.pair):
        writes.append(_changed(replace(pair, failures=0, window_ends_at=now, known_until=known_until, expires_at=known_until)))
    others = [counters[key] for key in (attempt.address, attempt.account) if key in counters]
    writes += [_changed(replace(counter, failures=counter.failures - 1)) for counter in others if counter.failures > 0]
    return sorted(writes, key=_lock_order)


def _changed(counter: LoginCounter) -> Write:
    changes = {name: value for name, value in row_of(counter).items() if name not in ("id", "version")}
    return Update(LOGIN_COUNTERS, EVERY_TENANT, counter.id, changes, counter.version)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _key(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()
