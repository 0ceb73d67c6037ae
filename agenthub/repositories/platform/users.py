"""Users: people who sign in, each in one organization with one role."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import Conflict, InvalidInput, VersionConflict
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT, TenantId, UserId
from agenthub.repositories.base import Page, Repository, all_of, equal_if
from agenthub.repositories.platform.api_keys import api_keys_removed
from agenthub.repositories.platform.organizations import ORGANIZATIONS
from agenthub.repositories.platform.roles import Role
from agenthub.repositories.platform.sessions import sessions_ended
from agenthub.storage.contract import And, Compare, Delete, Filter, Require, Table, Update, Write, eq

UserStatus = Literal["active", "suspended"]

MAX_EMAIL_LENGTH: Final = 254
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f\"<>()\[\],;:\\]{1,64}@[^@\s\x00-\x1f\x7f\"<>()\[\],;:\\]+\Z")
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class User:
    """One person in one organization. `email` is normalised and unique over all organizations."""

    id: UserId
    tenant_id: TenantId
    email: str
    name: str
    role: Role
    status: UserStatus
    password_hash: str = dataclasses.field(repr=False)
    password_changed_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def is_active_owner(self) -> bool:
        """Whether this user counts as one of the owners that every organization must have."""
        return self.role == "owner" and self.status == "active"


USERS: Final = Table.of(
    "users", User, unique=[("email",)], indexes=[("tenant_id", "id"), ("tenant_id", "role", "status"), ("tenant_id", "status", "id")]
)


def normalise_email(text: str, *, field: str = "email") -> str:
    """The one form in which an address is kept and looked up: NFKC, lower case, no surrounding space.

    Raises: InvalidInput with `field` when it has not the form of an address.
    """
    email = unicodedata.normalize("NFKC", text).strip().lower()
    if len(email) > MAX_EMAIL_LENGTH or not _EMAIL.match(email):
        raise InvalidInput("not an e-mail address", field=field)
    return email


def new_user(tenant_id: TenantId, email: str, name: str | None, role: Role, password_hash: str, now: datetime) -> User:
    """An active user, not yet stored; without a name the part of the address before the `@` serves.

    Raises: InvalidInput, field `email`, when it has not the form of an address.
    """
    email = normalise_email(email)
    shown = name or email.partition("@")[0]
    return User(UserId(new_id()), tenant_id, email, shown, role, "active", password_hash, now, now, now)


def _active_owner_but(key: str) -> Filter:
    return And((eq(role="owner", status="active"), Compare("id", "ne", key)))


class UserRepository(Repository[User]):
    """The users. No method lets an organization lose its last active owner, whatever runs at the same time."""

    table = USERS
    entity = User
    resource_kind = "user"

    def find_by_email(self, email: str) -> User | None:
        """The user with that normalised address in any organization: for signing in, when no tenant is known yet."""
        return self._find_one(EVERY_TENANT, email=email)

    def page_of(self, tenant_id: TenantId, *, role: Role | None, status: UserStatus | None, limit: int, cursor: str | None) -> Page[User]:
        """The organization's users, newest first.

        Raises: MalformedInput, field `cursor`.
        """
        return self.page(tenant_id, where=all_of(equal_if("role", role), equal_if("status", status)), limit=limit, cursor=cursor)

    def change(self, tenant_id: TenantId, key: UserId, changes: Mapping[str, Any], *, expected_version: int | None = None) -> User:
        """Change name, role or status; suspension ends the user's sessions. Returns the user as it is now.

        Raises: NotFound; VersionConflict when `expected_version` no longer holds or others keep changing the user; Conflict when
        it is the organization's last active owner that would cease to be one.
        """
        for _ in range(_ATTEMPTS):
            before = self.get(tenant_id, key)
            if expected_version not in (None, before.version):
                break
            now = self._storage.now()
            after = replace(before, **changes, updated_at=now, version=before.version + 1)
            extra = self._owner_guard(before, now) if before.is_active_owner and not after.is_active_owner else []
            if after.status != "active":
                extra.append(sessions_ended(tenant_id, key))
            write = Update(USERS, tenant_id, key, {**changes, "updated_at": now}, before.version)
            if self._applied(tenant_id, [write, *extra], after, _verb(before, after), key):
                return after
        raise VersionConflict("the user changed meanwhile; read it again")

    def delete(self, tenant_id: TenantId, key: UserId) -> None:
        """Remove the user with their sessions and API keys.

        Raises: NotFound; Conflict for the last active owner; VersionConflict when others keep changing the user.
        """
        for _ in range(_ATTEMPTS):
            before = self.get(tenant_id, key)
            guard = self._owner_guard(before, self._storage.now()) if before.is_active_owner else []
            writes = [Delete(USERS, tenant_id, key, before.version), sessions_ended(tenant_id, key), api_keys_removed(tenant_id, key)]
            if self._applied(tenant_id, [*writes, *guard], None, "delete", key):
                return
        raise VersionConflict("the user changed meanwhile; read it again")

    def set_password(self, user: User, password_hash: str, now: datetime, *, keep_session: str | None, verb: str) -> None:
        """Replace the password of the user as it was read and end their sessions, except the one of id `keep_session`.

        Raises: NotFound; VersionConflict when the password changed since the user was read.
        """
        changes = {"password_hash": password_hash, "password_changed_at": now, "updated_at": now}
        write = Update(USERS, user.tenant_id, user.id, changes, where=eq(password_hash=user.password_hash))
        self._commit(user.tenant_id, [write, sessions_ended(user.tenant_id, user.id, but=keep_session)], None, verb, user.id)

    def rehash(self, user: User, password_hash: str) -> User:
        """Keep the same password under newer hash parameters; returns the user as it is now. Not audited: nothing changed.

        Raises: NotFound; VersionConflict when the password changed since the user was read.
        """
        write = Update(USERS, user.tenant_id, user.id, {"password_hash": password_hash}, where=eq(password_hash=user.password_hash))
        row = self._storage.commit([write])[0]
        return self.from_row(row) if row else user

    def _applied(self, tenant_id: TenantId, writes: Sequence[Write], result: Any, verb: str, key: str) -> bool:
        try:
            self._commit(tenant_id, writes, result, verb, key)
        except VersionConflict:
            return False
        return True

    def _owner_guard(self, leaving: User, now: datetime) -> list[Write]:
        """The write that makes losing an owner safe: the organization's version is read before the owners are counted, and
        every commit that takes an owner away moves it, so of two that would together take the last one only one succeeds.

        Raises: Conflict when there is no other active owner.
        """
        tenant_id = leaving.tenant_id
        organization = self._storage.get(ORGANIZATIONS, tenant_id, tenant_id)
        if organization is None or not self.count(tenant_id, _active_owner_but(leaving.id)):
            raise Conflict("an organization must keep at least one active owner")
        return [Update(ORGANIZATIONS, tenant_id, tenant_id, {"updated_at": now}, organization["version"])]


def still_trusted(user: User) -> Require:
    """The condition that the user is active and has the password and role it had when it was read."""
    return Require(USERS, user.tenant_id, user.id, eq(status="active", password_hash=user.password_hash, role=user.role))


def active_user(tenant_id: TenantId, key: UserId) -> Require:
    """The condition that the user is active."""
    return Require(USERS, tenant_id, key, eq(status="active"))


def _verb(before: User, after: User) -> str:
    if before.status != after.status:
        return "suspend" if after.status == "suspended" else "activate"
    return "assign_role" if before.role != after.role else "update"
