"""The rules of signing in, changing passwords and handing out keys."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from agenthub.core.errors import AgentHubError, InvalidInput, NotFound, PermissionDenied, Unauthenticated, VersionConflict
from agenthub.repositories.operations import Operation
from agenthub.repositories.platform.audit_events import NO_TENANT, note_refusal
from agenthub.repositories.platform.login_throttle import LoginThrottle, attempt_of
from agenthub.repositories.platform.organizations import Organization, OrganizationRepository
from agenthub.repositories.platform.passwords import HASHING, Turn, check_new_password
from agenthub.repositories.platform.principals import Principal
from agenthub.repositories.platform.roles import PERMISSIONS, permissions_of
from agenthub.repositories.platform.sessions import IssuedSession, SessionRepository, new_session
from agenthub.repositories.platform.users import User, UserRepository, normalise_email, still_trusted
from agenthub.resources import Resources

_SWEEP_ONE_IN: Final = 50


@dataclass(frozen=True, slots=True)
class Visitor:
    """From where someone wants to sign in."""

    address: str
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that begins, for whom, and what they may do."""

    issued: IssuedSession
    user: User
    organization: Organization
    permissions: frozenset[str]


class SignIn:
    """Signing in and proving a password again, slowed down where it is guessed (docs/adr/0009-signing-in.md)."""

    def __init__(self, resources: Resources, operation: Operation) -> None:
        storage = resources.storage
        self._storage = storage
        self._clock = resources.clock
        self._accounts = resources.settings.accounts
        self._operation = operation
        self._throttle = LoginThrottle(storage, resources.clock)
        self._users = UserRepository(storage)

    def sign_in(self, email: str, password: str, visitor: Visitor) -> SignedIn:
        """Begin a session.

        Raises: Unauthenticated, always the same, for an unknown account, a wrong password and a suspended user or organization;
        RateLimited.
        """
        account = _account(email)
        attempt = attempt_of(account, visitor.address)
        self._throttle.check(attempt)
        with HASHING.turn() as turn:
            self._throttle.admit(attempt)
            user = self._users.find_by_email(account)
            right = turn.verify(user.password_hash if user else None, password)
            organization = self._open_to(user) if user and right else None
            if user is None or organization is None:
                raise self._refused(user)
            user = self._rehashed(user, turn, password)
        self._throttle.forgive(attempt)
        self._sweep_sometimes()
        return self._begin(user, organization, visitor)

    def change_password(self, user: User, current: str, fresh: str, visitor: Visitor, *, keep_session: str | None) -> None:
        """Replace one's own password and end one's other sessions.

        Raises: InvalidInput, field `current_password` or `new_password`; RateLimited; VersionConflict when it changed meanwhile.
        """
        check_new_password(fresh, user.email, field="new_password")
        attempt = attempt_of(user.email, visitor.address)
        self._throttle.check(attempt)
        with HASHING.turn() as turn:
            self._throttle.admit(attempt)
            if not turn.verify(user.password_hash, current):
                self._note("user.change_password", user)
                raise InvalidInput("is not your password", field="current_password")
            fresh_hash = turn.hash(fresh)
        self._throttle.forgive(attempt)
        users = UserRepository(self._storage, self._operation)
        users.set_password(user, fresh_hash, self._storage.now(), keep_session=keep_session, verb="change_password")

    def _open_to(self, user: User) -> Organization | None:
        """The user's organization, or None when either is suspended."""
        organization = OrganizationRepository(self._storage).find(user.tenant_id, user.tenant_id)
        active = organization is not None and organization.status == "active" and user.status == "active"
        return organization if active else None

    def _refused(self, user: User | None) -> Unauthenticated:
        self._note("session.start", user)
        return Unauthenticated("wrong e-mail address or password")

    def _note(self, action: str, user: User | None) -> None:
        """Audit a failed attempt; what was typed stays out, also the address: people type passwords there."""
        actor = self._operation.actor
        tenant_id = user.tenant_id if user else NO_TENANT
        note_refusal(self._storage, actor, tenant_id, action, kind="user", resource_id=user.id if user else None, result="failed")

    def _rehashed(self, user: User, turn: Turn, password: str) -> User:
        if not turn.is_outdated(user.password_hash):
            return user
        fresh = turn.hash(password)
        with suppress(NotFound, VersionConflict):  # changed meanwhile: the new session's own condition decides
            return self._users.rehash(user, fresh)
        return user

    def _begin(self, user: User, organization: Organization, visitor: Visitor) -> SignedIn:
        actor = replace(self._operation.actor, kind="user", id=user.id)
        issued = new_session(
            user.tenant_id,
            user.id,
            self._clock.now(),
            address=visitor.address,
            user_agent=visitor.user_agent,
            idle_life=timedelta(seconds=self._accounts.session_idle_seconds),
            absolute_life=timedelta(seconds=self._accounts.session_absolute_seconds),
        )
        try:
            SessionRepository(self._storage, Operation(actor)).start(issued, still_trusted(user))
        except (NotFound, VersionConflict) as error:
            raise Unauthenticated("wrong e-mail address or password") from error
        permissions = permissions_of(user.role, in_operator_organization=organization.is_operator)
        return SignedIn(issued, user, organization, permissions)

    def _sweep_sometimes(self) -> None:
        """Forget expired sessions and counters now and then; a failure is the next one's work."""
        if secrets.randbelow(_SWEEP_ONE_IN) == 0:
            with suppress(AgentHubError):
                self._throttle.sweep()
                SessionRepository(self._storage).sweep(self._clock.now())


def _account(email: str) -> str:
    """The normalised address, or the text itself: what can't be an address is an unknown account like any other."""
    try:
        return normalise_email(email)
    except InvalidInput:
        return email


def check_scopes(scopes: Sequence[str], caller: Principal) -> None:
    """Refuse scopes that don't exist or that the caller does not hold.

    Raises: InvalidInput naming the scope; PermissionDenied.
    """
    for index, scope in enumerate(scopes):
        if scope not in PERMISSIONS:
            raise InvalidInput("is not a permission; GET /api/auth/permissions lists them", field=f"scopes[{index}]")
    missing = sorted(set(scopes) - caller.permissions)
    if missing:
        raise PermissionDenied(f"a key can't hold more than its creator: {', '.join(missing)}")


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Refuse a key that would be dead at birth.

    Raises: InvalidInput, field `expires_at`.
    """
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("must be in the future", field="expires_at")
