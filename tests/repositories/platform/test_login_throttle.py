"""Guessing is slowed down; nobody is locked out."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agenthub.core.errors import RateLimited, StorageUnavailable, VersionConflict
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.platform.login_throttle import ADDRESS_FAILURES, LOGIN_COUNTERS, Attempt, LoginThrottle, attempt_of
from agenthub.storage.contract import Storage


@pytest.fixture
def throttle(storage: Storage, clock: Any) -> LoginThrottle:
    return LoginThrottle(storage, clock)


def someone() -> str:
    return f"{new_id()}@example.org"


def somewhere() -> str:
    number = int.from_bytes(new_id().encode()[-3:], "big")
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def fail(throttle: LoginThrottle, attempt: Attempt, times: int) -> None:
    for _ in range(times):
        throttle.admit(attempt)


def wait_of(throttle: LoginThrottle, attempt: Attempt) -> float:
    """How long the next attempt has to wait; 0 when it is admitted now. Counts nothing."""
    try:
        throttle.check(attempt)
    except RateLimited as refused:
        return refused.retry_after_seconds or -1.0
    return 0.0


def test_counters_expire(throttle: LoginThrottle, storage: Storage, clock: Any) -> None:
    attempt = attempt_of(someone(), somewhere())
    fail(throttle, attempt, 5)
    clock.move(hours=24)
    assert wait_of(throttle, attempt) == 0
    throttle.sweep()
    assert storage.get_many(LOGIN_COUNTERS, EVERY_TENANT, [attempt.pair, attempt.address, attempt.account]) == {}


def test_five_failures_are_free_and_then_each_doubles_the_wait(throttle: LoginThrottle, clock: Any) -> None:
    attempt = attempt_of(someone(), somewhere())
    fail(throttle, attempt, 5)
    waits = []
    for _ in range(12):
        wait = wait_of(throttle, attempt)
        with pytest.raises(RateLimited):
            throttle.admit(attempt)
        waits.append(wait)
        clock.move(seconds=wait)
        throttle.admit(attempt)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_a_refused_attempt_does_not_prolong_the_wait(throttle: LoginThrottle, clock: Any) -> None:
    attempt = attempt_of(someone(), somewhere())
    fail(throttle, attempt, 5)
    for _ in range(20):
        assert wait_of(throttle, attempt) == 1
    clock.move(seconds=1)
    throttle.admit(attempt)


def test_success_forgets_the_pairs_failures(throttle: LoginThrottle) -> None:
    attempt = attempt_of(someone(), somewhere())
    fail(throttle, attempt, 5)
    throttle.forgive(attempt)
    fail(throttle, attempt, 5)
    assert wait_of(throttle, attempt) == 1


def test_many_right_passwords_are_no_failures(throttle: LoginThrottle) -> None:
    address = somewhere()
    for _ in range(ADDRESS_FAILURES + 20):
        attempt = attempt_of("ada@example.org" + address, address)
        throttle.admit(attempt)
        throttle.forgive(attempt)
    assert wait_of(throttle, attempt_of(someone(), address)) == 0


def test_a_crowd_can_not_lock_the_victim_out(throttle: LoginThrottle, clock: Any) -> None:
    victim = someone()
    for number in range(300):
        throttle.admit(attempt_of(victim, f"203.0.{number // 250}.{number % 250}"))
    home = attempt_of(victim, "198.51.100.7")
    assert wait_of(throttle, home) == 0
    throttle.admit(home)
    assert wait_of(throttle, home) == 1, "under pressure an address has one free failure"
    clock.move(seconds=1)
    throttle.admit(home)


def test_a_known_address_keeps_its_whole_allowance_under_pressure(throttle: LoginThrottle) -> None:
    victim, address = someone(), somewhere()
    home = attempt_of(victim, address)
    throttle.admit(home)
    throttle.forgive(home)
    for number in range(150):
        throttle.admit(attempt_of(victim, f"203.1.{number}.1"))
    fail(throttle, home, 5)
    assert wait_of(throttle, home) == 1


def test_an_address_may_not_try_every_account(throttle: LoginThrottle, clock: Any) -> None:
    address = somewhere()
    neighbour = attempt_of(someone(), address)
    throttle.admit(neighbour)
    throttle.forgive(neighbour)
    for _ in range(ADDRESS_FAILURES):
        throttle.admit(attempt_of(someone(), address))
    assert wait_of(throttle, attempt_of(someone(), address)) == 900
    assert wait_of(throttle, neighbour) == 0, "who signed in from there before still can"
    assert wait_of(throttle, attempt_of(someone(), somewhere())) == 0
    clock.move(minutes=15)
    assert wait_of(throttle, attempt_of(someone(), address)) == 0


def test_ipv6_counts_by_network_and_mapped_ipv4_as_ipv4() -> None:
    assert attempt_of("a", "2001:db8::1") == attempt_of("a", "2001:db8::ffff:1")
    assert attempt_of("a", "2001:db8::1") != attempt_of("a", "2001:db8:0:1::1")
    assert attempt_of("a", "::ffff:192.0.2.1") == attempt_of("a", "192.0.2.1")
    assert attempt_of("a", "fe80::1%eth0") == attempt_of("a", "fe80::2")
    assert attempt_of("a", "unknown").address != attempt_of("a", "192.0.2.1").address


def test_parallel_guesses_are_all_counted(storage: Storage, clock: Any) -> None:
    attempt = attempt_of(someone(), somewhere())
    admitted: list[int] = []

    def guess() -> None:
        try:
            LoginThrottle(storage, clock).admit(attempt)
        except RateLimited:
            return
        admitted.append(1)

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 1 <= len(admitted) <= 5
    counted = storage.get(LOGIN_COUNTERS, EVERY_TENANT, attempt.pair)
    assert counted is not None and counted["failures"] == len(admitted)


def test_what_can_not_be_counted_is_not_admitted(throttle: LoginThrottle, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = attempt_of(someone(), somewhere())

    def conflict(_: Any) -> Any:
        raise VersionConflict("always")

    monkeypatch.setattr(storage, "commit", conflict)
    monkeypatch.setattr("agenthub.repositories.platform.login_throttle._PAUSE_SECONDS", 0.0)
    with pytest.raises(RateLimited):
        throttle.admit(attempt)

    def gone(_: Any) -> Any:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(storage, "commit", gone)
    with pytest.raises(StorageUnavailable):
        throttle.admit(attempt)
    throttle.forgive(attempt)


def test_rows_tell_neither_account_nor_address(throttle: LoginThrottle, storage: Storage) -> None:
    account, address = someone(), somewhere()
    attempt = attempt_of(account, address)
    throttle.admit(attempt)
    rows = storage.get_many(LOGIN_COUNTERS, EVERY_TENANT, [attempt.pair, attempt.address, attempt.account])
    assert len(rows) == 3
    assert account not in str(rows) and address not in str(rows)
