"""Which passwords are acceptable, and how hashing is bounded."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters

from agenthub.core.errors import InvalidInput, RateLimited
from agenthub.repositories.platform import passwords
from agenthub.repositories.platform.passwords import HASHING, PasswordHashing, check_new_password

GOOD = "a rather long phrase"


@pytest.mark.parametrize("password", ["x7$kQ2w", "x" * 257, "", "password", "PassWord", "12345678", "iloveyou1", "qwertyuiop"])
def test_short_long_and_common_passwords_are_refused(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_new_password(password, "ada@example.org", field="new_password")
    assert refused.value.field == "new_password"


@pytest.mark.parametrize("password", ["ada.lovelace@example.org", "ADA.Lovelace@example.org", "ada.lovelace"])
def test_the_own_address_is_no_password(password: str) -> None:
    with pytest.raises(InvalidInput):
        check_new_password(password, "ada.lovelace@example.org")


@pytest.mark.parametrize("password", [GOOD, "x" * 256, "ключ от дома", "🔑" * 8, "8 chars!"])
def test_any_composition_of_8_to_256_characters_is_accepted(password: str) -> None:
    check_new_password(password, "ada@example.org")


def test_a_password_is_not_truncated() -> None:
    with HASHING.turn() as turn:
        hashed = turn.hash("🔑" * 255 + "a")
        assert turn.verify(hashed, "🔑" * 255 + "a")
        assert not turn.verify(hashed, "🔑" * 255 + "b")


def test_hashes_are_argon2id_of_the_documented_cost() -> None:
    found = extract_parameters(HASHING.hash(GOOD))
    assert (found.type.name, found.memory_cost, found.time_cost, found.parallelism) == ("ID", 47104, 1, 1)
    assert found.memory_cost >= 46 * 1024


def test_a_hash_of_other_parameters_is_outdated() -> None:
    with HASHING.turn() as turn:
        assert turn.is_outdated(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(GOOD))
        assert not turn.is_outdated(turn.hash(GOOD))


def test_an_unknown_user_costs_one_real_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    verify = PasswordHasher.verify

    def note(self: PasswordHasher, hashed: str, password: str) -> Any:
        asked.append(hashed)
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", note)
    with HASHING.turn() as turn:
        assert turn.verify(None, GOOD) is False
        hashed = turn.hash(GOOD)
        assert turn.verify(hashed, GOOD) is True
    assert len(asked) == 2
    dummy, real = (extract_parameters(one) for one in asked)
    assert dummy == real


def test_no_password_opens_the_unknown_user() -> None:
    with HASHING.turn() as turn:
        assert not any(turn.verify(None, guess) for guess in ("", "A" * 43, passwords._UNKNOWN_USER_HASH))


def test_a_damaged_hash_is_no_match_and_no_crash() -> None:
    with HASHING.turn() as turn:
        assert not turn.verify("$argon2id$nonsense", GOOD)
        assert not turn.verify("plain", "plain")


def test_at_most_so_many_hash_at_once_and_the_rest_are_told_to_wait() -> None:
    hashing = PasswordHashing(concurrent=2, waiting=1, wait_seconds=0.05)
    inside, leave = threading.Barrier(3), threading.Event()

    def occupy() -> None:
        with hashing.turn():
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=occupy) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with pytest.raises(RateLimited) as refused, hashing.turn():
        pass
    assert refused.value.retry_after_seconds
    leave.set()
    for thread in threads:
        thread.join(10)
    with hashing.turn():
        pass


def test_those_over_the_queue_are_refused_at_once() -> None:
    hashing = PasswordHashing(concurrent=1, waiting=0, wait_seconds=3600)
    with hashing.turn(), pytest.raises(RateLimited), hashing.turn():
        pass
    with hashing.turn():
        pass


def test_a_failure_inside_a_turn_gives_it_back() -> None:
    hashing = PasswordHashing(concurrent=1, waiting=0, wait_seconds=0.01)
    for _ in range(3):
        with pytest.raises(InvalidInput), hashing.turn():
            raise InvalidInput("x")
