"""How organizations begin: always with their first owner, in one commit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from agenthub.core.errors import AlreadyExists, InvalidInput, VersionConflict
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.base import audit_action
from agenthub.repositories.operations import row_of
from agenthub.repositories.platform.organizations import OPERATOR, ORGANIZATIONS, Organization, OrganizationRepository
from agenthub.repositories.platform.passwords import HASHING, check_new_password
from agenthub.repositories.platform.users import USERS, User, UserRepository, new_user, normalise_email
from agenthub.storage.contract import Insert, Storage, Write

DEFAULT_EMAIL: Final = "owner@agenthub.com"
DEFAULT_PASSWORD: Final = "password"  # noqa: S105 - documented; embedded storage on a loopback address only
FIRST_ORGANIZATION: Final = "AgentHub"


@dataclass(frozen=True, slots=True)
class FirstOwner:
    """What `ensure_first_owner` found or did.

    `created`: an owner was made. `exists`: one was there and was left alone. `replaced`: the default password was in use where it
    is not allowed and is now the given one. `refused`: it is in use where it is not allowed and no other was given. `absent`: there
    is no owner and nothing to make one of. `default_password` says whether the default password opens the account now.
    """

    outcome: Literal["created", "exists", "replaced", "refused", "absent"]
    email: str | None
    default_password: bool


class FoundingRepository(OrganizationRepository):
    """Makes organizations."""

    def found(self, by: TenantId, organization: Organization, owner: User) -> Organization:
        """Create an organization with its first owner on behalf of organization `by`, where the request's record is kept.

        Both organizations' audit logs tell of it.
        Raises: AlreadyExists when the owner's e-mail address, or the place of the operator, is taken.
        """
        now = organization.created_at
        writes: list[Write] = [Insert(ORGANIZATIONS, row_of(organization)), Insert(USERS, row_of(owner))]
        writes.append(self._operation.audit(organization.id, "user.create", "user", owner.id, now, role=owner.role))
        if by != organization.id:
            action = audit_action(self.resource_kind, "create")
            writes.append(self._operation.audit(organization.id, action, self.resource_kind, organization.id, now))
        self._commit(by, writes, organization, "create", organization.id)
        return organization


def ensure_first_owner(storage: Storage, email: str | None, password: str | None, allow_default: bool) -> FirstOwner:
    """Make the operator organization and its owner, unless they exist; safe when several processes start at once.

    With `allow_default` (embedded storage, loopback bind) an owner is made even without a password: the documented default one.
    Without it, an account that still has the default password gets `password`, or is reported as `refused`.
    Raises: InvalidInput when the given e-mail address or password is not acceptable, or a password is missing for an address.
    """
    if email is not None and password is None:
        raise InvalidInput("an owner's e-mail address needs a password", field="password")
    operator = OrganizationRepository(storage).find_operator()
    if operator is None:
        if password is None and not allow_default:
            return FirstOwner("absent", None, False)
        try:
            return _create(storage, email or DEFAULT_EMAIL, password)
        except AlreadyExists as error:
            if error.table != ORGANIZATIONS.name:
                raise InvalidInput("this e-mail address belongs to another organization's user", field="email") from error
    return _settle(storage, password, allow_default)


def _create(storage: Storage, email: str, password: str | None) -> FirstOwner:
    email = normalise_email(email)
    default = password is None
    if password is not None:
        check_new_password(password, email)
    now = storage.now()
    tenant_id = TenantId(new_id())
    owner = new_user(tenant_id, email, None, "owner", HASHING.hash(password or DEFAULT_PASSWORD), now)
    organization = Organization(tenant_id, FIRST_ORGANIZATION, "active", OPERATOR, now, now)
    FoundingRepository(storage).found(tenant_id, organization, owner)
    return FirstOwner("created", email, default)


def _settle(storage: Storage, password: str | None, allow_default: bool) -> FirstOwner:
    """What is to be done where an operator exists: nothing, unless the default password is in use and may not be."""
    users = UserRepository(storage)
    owner = users.find_by_email(DEFAULT_EMAIL)
    with HASHING.turn() as turn:
        default = owner is not None and turn.verify(owner.password_hash, DEFAULT_PASSWORD)
        if owner is None or not default or allow_default:
            return FirstOwner("exists", owner.email if owner else None, default)
        if password is None:
            return FirstOwner("refused", owner.email, True)
        check_new_password(password, owner.email)
        fresh = turn.hash(password)
    with suppress(VersionConflict):  # another starting process has just replaced it
        users.set_password(owner, fresh, storage.now(), keep_session=None, verb="replace_default_password")
    return FirstOwner("replaced", owner.email, False)
