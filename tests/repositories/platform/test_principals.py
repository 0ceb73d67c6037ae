"""Who a token belongs to: every condition, checked at every request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agenthub.core.errors import NotFound, StorageUnavailable
from agenthub.repositories.platform.api_keys import ApiKeyRepository, IssuedApiKey, new_api_key
from agenthub.repositories.platform.organizations import OrganizationRepository
from agenthub.repositories.platform.principals import Principal, Principals
from agenthub.repositories.platform.roles import ROLE_PERMISSIONS
from agenthub.repositories.platform.sessions import SESSIONS, IssuedSession, SessionRepository, new_session
from agenthub.repositories.platform.tokens import is_token, new_token, token_sha256
from agenthub.repositories.platform.users import User, UserRepository, active_user
from agenthub.storage.contract import Storage, Update

IDLE = timedelta(hours=1)
ABSOLUTE = timedelta(hours=3)


@pytest.fixture
def owner(made: Any) -> User:
    """An owner who may be demoted, for there is another one."""
    first: User = made.with_owner()
    made.user(first.tenant_id)
    return first


@pytest.fixture
def session(storage: Storage, owner: User, clock: Any) -> IssuedSession:
    issued = new_session(owner.tenant_id, owner.id, clock.now(), idle_life=IDLE, absolute_life=ABSOLUTE)
    return SessionRepository(storage).start(issued)


@pytest.fixture
def key(storage: Storage, owner: User, clock: Any) -> IssuedApiKey:
    scopes = ["users:write", "search:query"]
    issued = new_api_key(owner.tenant_id, owner.id, "ci", scopes, clock.now(), clock.now() + ABSOLUTE)
    return ApiKeyRepository(storage).issue(issued, active_user(owner.tenant_id, owner.id), kept=None)


@pytest.fixture
def principals(storage: Storage, clock: Any) -> Principals:
    return Principals(storage, clock)


def test_a_session_is_its_user(principals: Principals, session: IssuedSession, owner: User) -> None:
    permissions = ROLE_PERMISSIONS["owner"]
    expected = Principal("user", owner.id, owner.id, owner.tenant_id, "owner", permissions, session.session.id, owner.email)
    assert principals.find(session.token) == expected


def test_a_key_may_do_what_is_in_its_scopes(principals: Principals, key: IssuedApiKey, owner: User) -> None:
    scopes = frozenset({"users:write", "search:query"})
    expected = Principal("api_key", key.key.id, owner.id, owner.tenant_id, "owner", scopes, None, owner.email)
    assert principals.find(key.secret) == expected


def test_what_is_no_token_is_nobody(principals: Principals, session: IssuedSession, key: IssuedApiKey) -> None:
    for text in ("", "ahs_", session.token[:-1], session.token + "x", session.session.token_hash, session.session.id, "ahs_" + "é" * 43):
        assert principals.find(text) is None
    assert principals.find("ahk_" + session.token[4:]) is None
    assert principals.find("ahs_" + key.secret[4:]) is None
    assert principals.find(new_token("session")) is None


def test_what_is_no_token_is_not_asked_for(clock: Any) -> None:
    class Untouchable:
        def ask(self, *_: Any) -> Any:
            raise AssertionError("asked")

    principals = Principals(Untouchable(), clock)  # type: ignore[arg-type]
    assert principals.find("x" * 47) is None
    with pytest.raises(AssertionError):
        principals.find(new_token("session"))


def test_tokens_hold_256_bits_and_only_hashes_are_kept(storage: Storage, session: IssuedSession, key: IssuedApiKey) -> None:
    assert is_token(session.token) and is_token(key.secret)
    assert len(session.token) == len(key.secret) == 4 + 43
    row = storage.get(SESSIONS, session.session.tenant_id, session.session.id)
    assert row is not None and row["token_hash"] == token_sha256(session.token)
    assert session.token not in str(row)
    assert key.secret[12:] not in str(key.key)
    assert len({new_token("api_key") for _ in range(1000)}) == 1000


def test_an_idle_session_ends_and_a_used_one_goes_on(principals: Principals, session: IssuedSession, clock: Any) -> None:
    clock.move(minutes=59)
    assert principals.find(session.token)
    clock.move(minutes=59)
    assert principals.find(session.token)
    clock.move(minutes=60)
    assert principals.find(session.token) is None


def test_even_a_used_session_ends(principals: Principals, session: IssuedSession, clock: Any) -> None:
    for _ in range(5):
        clock.move(minutes=30)
        assert principals.find(session.token)
    clock.move(minutes=30)
    assert principals.find(session.token) is None


def test_use_is_noted_at_most_once_a_minute(principals: Principals, session: IssuedSession, storage: Storage, clock: Any) -> None:
    def seen() -> Any:
        return SessionRepository(storage).get(session.session.tenant_id, session.session.id).last_seen_at

    begun = clock.now()
    clock.move(seconds=59)
    principals.find(session.token)
    assert seen() == begun
    clock.move(seconds=1)
    principals.find(session.token)
    assert seen() == clock.now()


def test_a_request_goes_on_when_its_use_can_not_be_noted(
    principals: Principals, session: IssuedSession, storage: Storage, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.move(minutes=5)
    for error in (StorageUnavailable("gone"), NotFound("gone")):

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(storage, "commit", fail)
        assert principals.find(session.token)


def test_an_ended_session_is_dead(principals: Principals, session: IssuedSession, storage: Storage, owner: User) -> None:
    SessionRepository(storage).end(owner.tenant_id, owner.id, session.session.id)
    assert principals.find(session.token) is None


def test_a_suspended_user_is_dead_on_every_path(
    principals: Principals, session: IssuedSession, key: IssuedApiKey, storage: Storage, owner: User
) -> None:
    UserRepository(storage).change(owner.tenant_id, owner.id, {"status": "suspended"})
    assert principals.find(session.token) is None
    assert principals.find(key.secret) is None
    late = SessionRepository(storage).start(new_session(owner.tenant_id, owner.id, session.session.created_at))
    assert principals.find(late.token) is None


def test_a_suspended_organization_is_dead_on_every_path(
    principals: Principals, session: IssuedSession, key: IssuedApiKey, storage: Storage, owner: User
) -> None:
    organizations = OrganizationRepository(storage)
    organizations.change(owner.tenant_id, owner.tenant_id, {"status": "suspended"})
    assert principals.find(session.token) is None
    assert principals.find(key.secret) is None
    organizations.change(owner.tenant_id, owner.tenant_id, {"status": "active"})
    assert principals.find(key.secret)


def test_a_demoted_creator_limits_the_key_at_once(principals: Principals, key: IssuedApiKey, storage: Storage, owner: User) -> None:
    UserRepository(storage).change(owner.tenant_id, owner.id, {"role": "viewer"})
    found = principals.find(key.secret)
    assert found is not None
    assert (found.role, found.permissions) == ("viewer", frozenset({"search:query"}))


def test_a_changed_role_counts_at_once(principals: Principals, session: IssuedSession, storage: Storage, owner: User) -> None:
    UserRepository(storage).change(owner.tenant_id, owner.id, {"role": "devops"})
    found = principals.find(session.token)
    assert found is not None and found.permissions == ROLE_PERMISSIONS["devops"]


def test_a_deleted_creator_takes_the_key_along(principals: Principals, key: IssuedApiKey, storage: Storage, owner: User) -> None:
    UserRepository(storage).delete(owner.tenant_id, owner.id)
    assert principals.find(key.secret) is None


def test_an_expired_and_a_revoked_key_are_dead(
    principals: Principals, key: IssuedApiKey, storage: Storage, owner: User, clock: Any
) -> None:
    clock.move(hours=2, minutes=59)
    assert principals.find(key.secret)
    clock.move(minutes=1)
    assert principals.find(key.secret) is None
    fresh = new_api_key(owner.tenant_id, owner.id, "other", [], clock.now(), None)
    keys = ApiKeyRepository(storage)
    keys.issue(fresh, active_user(owner.tenant_id, owner.id), kept=None)
    assert principals.find(fresh.secret)
    keys.revoke(owner.tenant_id, fresh.key.id, created_by=owner.id)
    keys.revoke(owner.tenant_id, fresh.key.id, created_by=owner.id)
    assert principals.find(fresh.secret) is None


def test_use_of_a_key_is_noted(principals: Principals, key: IssuedApiKey, storage: Storage, clock: Any) -> None:
    principals.find(key.secret)
    assert ApiKeyRepository(storage).get(key.key.tenant_id, key.key.id).last_used_at == clock.now()


def test_owners_of_the_operator_may_create_organizations(storage: Storage, made: Any, clock: Any) -> None:
    operator = made.organization(operator_mark="operator")
    try:
        boss = made.user(operator.id)
        issued = SessionRepository(storage).start(new_session(operator.id, boss.id, clock.now()))
        found = Principals(storage, clock).find(issued.token)
        assert found is not None and "organizations:create" in found.permissions
    finally:
        OrganizationRepository(storage).remove(operator.id, operator.id)


def test_a_session_in_another_organization_than_its_user_is_nobody(
    principals: Principals, storage: Storage, owner: User, made: Any, clock: Any
) -> None:
    foreign = new_session(made.organization().id, owner.id, clock.now())
    SessionRepository(storage).start(foreign)
    assert principals.find(foreign.token) is None


def test_swept_sessions_are_those_that_ended(session: IssuedSession, storage: Storage, clock: Any) -> None:
    sessions = SessionRepository(storage)
    sessions.sweep(clock.now())
    assert sessions.find(session.session.tenant_id, session.session.id)
    clock.move(hours=1)
    sessions.sweep(clock.now())
    assert sessions.find(session.session.tenant_id, session.session.id) is None


def test_the_touch_of_an_ended_session_does_not_bring_it_back(
    principals: Principals, session: IssuedSession, storage: Storage, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.move(minutes=5)
    commit = storage.commit

    def end_first(writes: Any) -> Any:
        assert isinstance(writes[0], Update)
        monkeypatch.setattr(storage, "commit", commit)
        SessionRepository(storage).end(session.session.tenant_id, session.session.user_id, session.session.id)
        return commit(writes)

    monkeypatch.setattr(storage, "commit", end_first)
    principals.find(session.token)
    assert principals.find(session.token) is None
