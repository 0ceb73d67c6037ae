"""Sessions: who is signed in, from where, until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from agenthub.core.errors import NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT, TenantId, UserId
from agenthub.repositories.base import Page, Repository, all_of
from agenthub.repositories.platform.tokens import new_token, token_sha256
from agenthub.storage.contract import Compare, DeleteWhere, Filter, Insert, Table, Write, eq

IDLE_LIFE: Final = timedelta(hours=24)
"""A session not used for this long ends."""

ABSOLUTE_LIFE: Final = timedelta(days=30)
"""A session ends this long after sign-in, however much it is used."""

_USER_AGENT_LENGTH: Final = 200
_ADDRESS_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. The token itself is nowhere, only its hash. `idle_seconds` is how far each use moves `idle_expires_at`."""

    id: str
    tenant_id: TenantId
    user_id: UserId
    token_hash: str
    created_at: datetime
    last_seen_at: datetime
    idle_expires_at: datetime
    absolute_expires_at: datetime
    idle_seconds: int
    address: str | None
    user_agent: str | None


SESSIONS: Final = Table.of(
    "sessions", Session, unique=[("token_hash",)], indexes=[("tenant_id", "user_id", "id"), ("idle_expires_at",), ("absolute_expires_at",)]
)


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """A session just made, with the token that is shown this once."""

    session: Session
    token: str

    @property
    def expires_at(self) -> datetime:
        """When the session ends at the latest, if it is used."""
        return self.session.absolute_expires_at


def new_session(
    tenant_id: TenantId,
    user_id: UserId,
    now: datetime,
    *,
    address: str | None = None,
    user_agent: str | None = None,
    idle_life: timedelta = IDLE_LIFE,
    absolute_life: timedelta = ABSOLUTE_LIFE,
) -> IssuedSession:
    """A session of that user starting now, not yet stored."""
    token = new_token("session")
    absolute = now + absolute_life
    session = Session(
        id=new_id(),
        tenant_id=tenant_id,
        user_id=user_id,
        token_hash=token_sha256(token),
        created_at=now,
        last_seen_at=now,
        idle_expires_at=min(now + idle_life, absolute),
        absolute_expires_at=absolute,
        idle_seconds=int(idle_life.total_seconds()),
        address=_shown(address, _ADDRESS_LENGTH),
        user_agent=_shown(user_agent, _USER_AGENT_LENGTH),
    )
    return IssuedSession(session, token)


def _shown(text: str | None, length: int) -> str | None:
    """What a client said of itself, printable and bounded."""
    return "".join(c for c in (text or "") if c.isprintable())[:length] or None


def sessions_ended(tenant_id: TenantId, user_id: UserId, *, but: str | None = None) -> Write:
    """The write that ends every session of a user, except the one whose id is `but`."""
    return DeleteWhere(SESSIONS, tenant_id, all_of(eq(user_id=user_id), Compare("id", "ne", but) if but else None))


def _alive(now: datetime) -> Filter:
    return all_of(Compare("idle_expires_at", "gt", now), Compare("absolute_expires_at", "gt", now))


class SessionRepository(Repository[Session]):
    """The sessions of users."""

    table = SESSIONS
    entity = Session
    resource_kind = "session"

    def start(self, issued: IssuedSession, *extra: Write) -> IssuedSession:
        """Store a new session; `extra` writes and conditions hold with it or not at all. The token is kept nowhere.

        Raises: NotFound or VersionConflict when a condition in `extra` doesn't hold.
        """
        session = issued.session
        row = Insert(SESSIONS, {name: getattr(session, name) for name in Session.__dataclass_fields__})
        self._commit(session.tenant_id, [*extra, row], None, "start", session.id)
        return issued

    def page_of_user(self, tenant_id: TenantId, user_id: UserId, now: datetime, *, limit: int, cursor: str | None) -> Page[Session]:
        """The user's sessions that are alive, newest first.

        Raises: MalformedInput, field `cursor`.
        """
        return self.page(tenant_id, where=all_of(eq(user_id=user_id), _alive(now)), limit=limit, cursor=cursor)

    def end(self, tenant_id: TenantId, user_id: UserId, key: str) -> None:
        """End one session of that user.

        Raises: NotFound when the user has no session of this id.
        """
        session = self.find(tenant_id, key)
        if session is None or session.user_id != user_id:
            raise NotFound("no session with this id")
        self.remove(tenant_id, key, verb="end")

    def end_all(self, tenant_id: TenantId, user_id: UserId, *, but: str | None = None, result: Any = None) -> None:
        """End every session of the user, except the one whose id is `but`."""
        self._commit(tenant_id, [sessions_ended(tenant_id, user_id, but=but)], result, "end_all", user_id)

    def sweep(self, now: datetime) -> None:
        """Forget the sessions of every tenant that have ended by themselves."""
        for column in ("idle_expires_at", "absolute_expires_at"):
            self._storage.commit([DeleteWhere(SESSIONS, EVERY_TENANT, Compare(column, "le", now))])
