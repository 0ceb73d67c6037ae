"""The first owner, made once, and the default password, never where it may not be."""

from __future__ import annotations

import threading

import pytest

from agenthub.core.errors import AlreadyExists, Conflict, InvalidInput
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT, TenantId
from agenthub.repositories.operations import AUDIT_EVENTS
from agenthub.repositories.platform.founding import DEFAULT_EMAIL, FirstOwner, FoundingRepository, ensure_first_owner
from agenthub.repositories.platform.organizations import ORGANIZATIONS, Organization, OrganizationRepository
from agenthub.repositories.platform.passwords import HASHING
from agenthub.repositories.platform.sessions import SESSIONS, SessionRepository, new_session
from agenthub.repositories.platform.users import USERS, UserRepository, new_user
from agenthub.storage.contract import ALL, DeleteWhere, Query, Storage, eq

PASSWORD = "a rather long phrase"


@pytest.fixture
def empty(storage: Storage) -> Storage:
    """The storage without organizations, users and sessions."""
    for table in (SESSIONS, USERS, ORGANIZATIONS, AUDIT_EVENTS):
        storage.commit([DeleteWhere(table, EVERY_TENANT, ALL)])
    return storage


def opens(storage: Storage, email: str, password: str) -> bool:
    user = UserRepository(storage).find_by_email(email)
    with HASHING.turn() as turn:
        return user is not None and turn.verify(user.password_hash, password)


def test_an_owner_is_made_once(empty: Storage) -> None:
    assert ensure_first_owner(empty, "Ada@Example.org", PASSWORD, False) == FirstOwner("created", "ada@example.org", False)
    assert ensure_first_owner(empty, "ada@example.org", "another long phrase", False).outcome == "exists"
    assert ensure_first_owner(empty, None, None, False).outcome == "exists"
    assert opens(empty, "ada@example.org", PASSWORD)
    owner = UserRepository(empty).find_by_email("ada@example.org")
    assert owner is not None and owner.role == "owner"
    operator = OrganizationRepository(empty).find_operator()
    assert operator is not None and operator.id == owner.tenant_id and operator.is_operator


def test_racing_starts_make_one_owner(empty: Storage) -> None:
    outcomes: list[FirstOwner] = []
    start = threading.Barrier(6)

    def begin() -> None:
        start.wait(10)
        outcomes.append(ensure_first_owner(empty, "ada@example.org", PASSWORD, False))

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcome.outcome for outcome in outcomes) == ["created"] + ["exists"] * 5
    assert empty.count(ORGANIZATIONS, EVERY_TENANT) == empty.count(USERS, EVERY_TENANT) == 1


def test_the_default_is_made_only_where_it_is_allowed(empty: Storage) -> None:
    assert ensure_first_owner(empty, None, None, False) == FirstOwner("absent", None, False)
    assert empty.count(USERS, EVERY_TENANT) == 0
    assert ensure_first_owner(empty, None, None, True) == FirstOwner("created", DEFAULT_EMAIL, True)
    assert ensure_first_owner(empty, None, None, True) == FirstOwner("exists", DEFAULT_EMAIL, True)
    assert opens(empty, DEFAULT_EMAIL, "password")


def test_the_default_password_does_not_survive_a_move_into_the_open(empty: Storage) -> None:
    ensure_first_owner(empty, None, None, True)
    owner = UserRepository(empty).find_by_email(DEFAULT_EMAIL)
    assert owner is not None
    session = SessionRepository(empty).start(new_session(owner.tenant_id, owner.id, empty.now())).session
    assert ensure_first_owner(empty, None, None, False) == FirstOwner("refused", DEFAULT_EMAIL, True)
    assert ensure_first_owner(empty, "ada@example.org", PASSWORD, False) == FirstOwner("replaced", DEFAULT_EMAIL, False)
    assert not opens(empty, DEFAULT_EMAIL, "password") and opens(empty, DEFAULT_EMAIL, PASSWORD)
    assert SessionRepository(empty).find(owner.tenant_id, session.id) is None
    assert ensure_first_owner(empty, None, None, False) == FirstOwner("exists", DEFAULT_EMAIL, False)


@pytest.mark.parametrize(("email", "password"), [("ada", PASSWORD), ("ada@example.org", "password"), ("ada@example.org", None)])
def test_an_unacceptable_owner_is_refused(empty: Storage, email: str, password: str | None) -> None:
    with pytest.raises(InvalidInput):
        ensure_first_owner(empty, email, password, True)
    assert empty.count(USERS, EVERY_TENANT) == 0


def test_there_is_one_operator_only(empty: Storage) -> None:
    now = empty.now()
    organizations = OrganizationRepository(empty)
    first = organizations.add(Organization(TenantId(new_id()), "One", "active", "operator", now, now))
    with pytest.raises(AlreadyExists):
        organizations.add(Organization(TenantId(new_id()), "Two", "active", "operator", now, now))
    with pytest.raises(Conflict) as refused:
        organizations.change(first.id, first.id, {"status": "suspended"})
    assert refused.value.field == "status"


def test_an_organization_is_founded_with_its_owner_or_not_at_all(empty: Storage) -> None:
    ensure_first_owner(empty, "ada@example.org", PASSWORD, False)
    operator = OrganizationRepository(empty).find_operator()
    assert operator is not None
    now = empty.now()
    founding = FoundingRepository(empty)
    doomed = Organization(TenantId(new_id()), "Doomed", "active", None, now, now)
    with pytest.raises(AlreadyExists) as refused:
        founding.found(operator.id, doomed, new_user(doomed.id, "ada@example.org", None, "owner", "$hash", now))
    assert refused.value.field == "email"
    assert founding.find(doomed.id, doomed.id) is None
    fine = Organization(TenantId(new_id()), "Fine", "active", None, now, now)
    founding.found(operator.id, fine, new_user(fine.id, "bob@example.org", None, "owner", "$hash", now))
    for tenant in (operator.id, fine.id):
        rows = empty.find(AUDIT_EVENTS, tenant, Query(eq(action="organization.create", resource_id=fine.id)))
        assert len(rows) == 1
