"""Users: addresses, and the last active owner whatever races."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from agenthub.core.errors import AgentHubError, AlreadyExists, Conflict, InvalidInput, NotFound, VersionConflict
from agenthub.core.types import TenantId
from agenthub.repositories.operations import AUDIT_EVENTS, row_of
from agenthub.repositories.platform.api_keys import ApiKeyRepository, new_api_key
from agenthub.repositories.platform.sessions import SessionRepository, new_session
from agenthub.repositories.platform.users import User, UserRepository, active_user, new_user, normalise_email, still_trusted
from agenthub.storage.contract import Query, Storage, eq


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("  ada@example.org ", "ada@example.org"),
        ("\uff41da@example.org", "ada@example.org"),
        ("o'hara+x@example.org", "o'hara+x@example.org"),
    ],
)
def test_addresses_have_one_form(text: str, email: str) -> None:
    assert normalise_email(text) == email


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "a@b@c",
        "a b@c.d",
        "a@b\r\nBcc: x@y.z",
        "a\x00@b.c",
        "<a@b.c>",
        "a" * 65 + "@b.c",
        "a@" + "b" * 260,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise_email(text, field="owner.email")
    assert refused.value.field == "owner.email"


def test_an_address_belongs_to_one_user_of_all_organizations(storage: Storage, made: Any) -> None:
    ada = made.with_owner()
    twin = new_user(made.organization().id, ada.email.upper(), "Other", "owner", "$hash", storage.now())
    with pytest.raises(AlreadyExists) as refused:
        UserRepository(storage).add(twin)
    assert refused.value.field == "email"
    found = UserRepository(storage).find_by_email(ada.email)
    assert found == ada


def test_a_hash_is_not_in_the_repr(made: Any) -> None:
    assert "$hash" not in repr(made.with_owner())


@pytest.mark.parametrize("changes", [{"role": "admin"}, {"status": "suspended"}, None])
def test_the_last_active_owner_stays(storage: Storage, made: Any, changes: dict[str, str] | None) -> None:
    owner: User = made.with_owner()
    made.user(owner.tenant_id, "admin")
    second = made.user(owner.tenant_id)
    users = UserRepository(storage)
    users.change(owner.tenant_id, second.id, {"status": "suspended"})
    with pytest.raises(Conflict):
        users.delete(owner.tenant_id, owner.id) if changes is None else users.change(owner.tenant_id, owner.id, changes)
    assert users.get(owner.tenant_id, owner.id) == owner
    users.change(owner.tenant_id, second.id, {"status": "active"})
    users.delete(owner.tenant_id, owner.id) if changes is None else users.change(owner.tenant_id, owner.id, changes)
    assert [u.id for u in users.page(owner.tenant_id, where=eq(role="owner", status="active")).items] == [second.id]


def race(*steps: Callable[[], Any]) -> list[AgentHubError | None]:
    """Run the steps at the same time; what each raised."""
    outcomes: list[AgentHubError | None] = [None] * len(steps)
    start = threading.Barrier(len(steps))

    def run(index: int) -> None:
        start.wait(10)
        try:
            steps[index]()
        except AgentHubError as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


def test_owners_who_leave_at_once_leave_one_behind(storage: Storage, made: Any) -> None:
    for _ in range(5):
        first: User = made.with_owner()
        tenant: TenantId = first.tenant_id
        second, third = made.user(tenant), made.user(tenant)
        users = UserRepository(storage)
        outcomes = race(
            partial(users.change, tenant, first.id, {"role": "viewer"}),
            partial(users.change, tenant, second.id, {"status": "suspended"}),
            partial(users.delete, tenant, third.id),
        )
        left = users.count(tenant, eq(role="owner", status="active"))
        assert left >= 1
        assert left == sum(isinstance(outcome, Conflict) for outcome in outcomes)


def test_suspension_ends_sessions_and_deletion_takes_keys_too(storage: Storage, made: Any) -> None:
    owner: User = made.with_owner()
    user: User = made.user(owner.tenant_id, "user")
    users, sessions, keys = UserRepository(storage), SessionRepository(storage), ApiKeyRepository(storage)
    mine = sessions.start(new_session(owner.tenant_id, owner.id, storage.now())).session
    first = sessions.start(new_session(user.tenant_id, user.id, storage.now())).session
    key = new_api_key(user.tenant_id, user.id, "ci", [], storage.now(), None)
    keys.issue(key, active_user(user.tenant_id, user.id), kept=None)
    users.change(user.tenant_id, user.id, {"status": "suspended"})
    assert sessions.find(user.tenant_id, first.id) is None
    assert keys.find(user.tenant_id, key.key.id) is not None
    users.delete(user.tenant_id, user.id)
    assert keys.find(user.tenant_id, key.key.id) is None
    assert sessions.find(owner.tenant_id, mine.id) == mine


def test_another_organizations_user_can_not_be_touched(storage: Storage, made: Any) -> None:
    ada, bob = made.with_owner(), made.with_owner()
    users = UserRepository(storage)
    with pytest.raises(NotFound):
        users.change(ada.tenant_id, bob.id, {"role": "viewer"})
    with pytest.raises(NotFound):
        users.delete(ada.tenant_id, bob.id)
    assert users.get(bob.tenant_id, bob.id) == bob


def test_a_stale_version_is_refused(storage: Storage, made: Any) -> None:
    ada: User = made.with_owner()
    users = UserRepository(storage)
    renamed = users.change(ada.tenant_id, ada.id, {"name": "Ada"}, expected_version=1)
    assert (renamed.name, renamed.version) == ("Ada", 2)
    assert users.get(ada.tenant_id, ada.id) == renamed
    with pytest.raises(VersionConflict):
        users.change(ada.tenant_id, ada.id, {"name": "Eve"}, expected_version=1)


def test_a_password_is_set_over_the_one_that_was_read_only(storage: Storage, made: Any) -> None:
    ada: User = made.with_owner()
    users, sessions = UserRepository(storage), SessionRepository(storage)
    kept = sessions.start(new_session(ada.tenant_id, ada.id, storage.now()), still_trusted(ada)).session
    gone = sessions.start(new_session(ada.tenant_id, ada.id, storage.now()), still_trusted(ada)).session
    users.set_password(ada, "$new", storage.now(), keep_session=kept.id, verb="change_password")
    assert [sessions.find(ada.tenant_id, one.id) is not None for one in (kept, gone)] == [True, False]
    with pytest.raises(VersionConflict):
        users.set_password(ada, "$other", storage.now(), keep_session=None, verb="change_password")
    with pytest.raises(VersionConflict):
        sessions.start(new_session(ada.tenant_id, ada.id, storage.now()), still_trusted(ada))


def test_every_change_is_in_the_audit_log(storage: Storage, made: Any) -> None:
    owner: User = made.with_owner()
    user: User = made.user(owner.tenant_id, "viewer")
    users = UserRepository(storage)
    users.change(user.tenant_id, user.id, {"role": "admin"})
    users.change(user.tenant_id, user.id, {"status": "suspended"})
    users.change(user.tenant_id, user.id, {"status": "active"})
    users.change(user.tenant_id, user.id, {"name": "Bob"})
    users.set_password(users.get(user.tenant_id, user.id), "$new", storage.now(), keep_session=None, verb="reset_password")
    users.delete(user.tenant_id, user.id)
    rows = storage.find(AUDIT_EVENTS, owner.tenant_id, Query(eq(resource_id=user.id)))
    assert {row["action"] for row in rows} == {
        "user.create",
        "user.assign_role",
        "user.suspend",
        "user.activate",
        "user.update",
        "user.reset_password",
        "user.delete",
    }
    assert not [row for row in rows if "$" in str(row)]


def test_the_row_of_a_user_makes_the_user_again(made: Any) -> None:
    ada = made.with_owner()
    rows: Sequence[Any] = [row_of(ada)]
    assert User(**rows[0]) == ada
