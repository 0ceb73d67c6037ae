"""An application with organizations, users, sessions and keys made to order, and a clock that tests move."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask

from agenthub.core.ids import new_id
from agenthub.core.observe import Unobserved
from agenthub.core.types import TenantId
from agenthub.factory import create_app
from agenthub.repositories.platform.api_keys import ApiKeyRepository, IssuedApiKey, new_api_key
from agenthub.repositories.platform.founding import ensure_first_owner
from agenthub.repositories.platform.organizations import Organization, OrganizationRepository
from agenthub.repositories.platform.passwords import HASHING
from agenthub.repositories.platform.roles import Role
from agenthub.repositories.platform.sessions import IssuedSession, SessionRepository, new_session
from agenthub.repositories.platform.users import User, UserRepository, active_user, new_user
from agenthub.resources import Resources
from agenthub.settings import Settings
from agenthub.storage.memory import MemoryStorage
from tests.api import OWNER, Api

PASSWORD = "a rather long phrase"
IDLE = timedelta(hours=12)
ABSOLUTE = timedelta(days=7)


class MovedClock:
    """A clock that stands still until it is moved; it starts at the present, whole seconds."""

    def __init__(self, moment: datetime | None = None) -> None:
        self.moment = moment or datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def move(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


class RunningClock(MovedClock):
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@cache
def password_hash() -> str:
    """The hash of PASSWORD, made once."""
    return HASHING.hash(PASSWORD)


@dataclass(frozen=True, slots=True)
class Account:
    """A user with a session: `api` sends its token."""

    user: User
    session: IssuedSession
    api: Api

    @property
    def tenant_id(self) -> TenantId:
        return self.user.tenant_id


class World:
    """One application over memory, with everything that tests of accounts need to make."""

    def __init__(self, folder: Path, clock: MovedClock | None = None, **environment: str) -> None:
        self.clock = clock or MovedClock()
        self.storage = MemoryStorage(self.clock)
        settings = Settings.from_env(
            {
                "DATABASE_URL": "memory://",
                "VECTOR_STORE_BASE_PATH": str(folder / "knowledge"),
                "AGENTHUB_OWNER_EMAIL": OWNER["email"],
                "AGENTHUB_OWNER_PASSWORD": OWNER["password"],
                "AGENTHUB_SESSION_IDLE_SECONDS": str(int(IDLE.total_seconds())),
                "AGENTHUB_SESSION_ABSOLUTE_SECONDS": str(int(ABSOLUTE.total_seconds())),
                "AGENTHUB_LOG_LEVEL": "warning",
                "AGENTHUB_MAINTENANCE": "off",  # nothing changes rows but requests
                **environment,
            }
        )
        self.resources = Resources(settings, self.storage, Unobserved(), clock=self.clock)
        ensure_first_owner(self.storage, OWNER["email"], OWNER["password"], False)
        self.app: Flask = create_app(settings, self.resources)

    @property
    def anonymous(self) -> Api:
        """A client without a token."""
        return Api(self.app)

    def organization(self, name: str = "Analytical Engines") -> Organization:
        now = self.clock.now()
        return OrganizationRepository(self.storage).add(Organization(TenantId(new_id()), name, "active", None, now, now))

    def operator(self) -> Account:
        """The owner of the operator organization."""
        user = UserRepository(self.storage).find_by_email(OWNER["email"])
        assert user is not None
        return self.signed_in(user)

    def user(self, tenant_id: TenantId | None = None, role: Role = "owner", name: str | None = None) -> User:
        """A user whose password is PASSWORD, in a new organization if none is given."""
        tenant_id = tenant_id or self.organization().id
        user = new_user(tenant_id, f"{new_id()}@example.org", name, role, password_hash(), self.clock.now())
        return UserRepository(self.storage).add(user)

    def signed_in(self, user: User) -> Account:
        issued = new_session(
            user.tenant_id, user.id, self.clock.now(), address="192.0.2.1", user_agent="test", idle_life=IDLE, absolute_life=ABSOLUTE
        )
        SessionRepository(self.storage).start(issued)
        return Account(user, issued, Api(self.app, issued.token))

    def account(self, tenant_id: TenantId | None = None, role: Role = "owner") -> Account:
        """A new user with a session."""
        return self.signed_in(self.user(tenant_id, role))

    def key(self, creator: User, scopes: Sequence[str] = (), expires_at: datetime | None = None) -> tuple[IssuedApiKey, Api]:
        """An API key of that user and a client that sends it."""
        issued = new_api_key(creator.tenant_id, creator.id, "key", scopes, self.clock.now(), expires_at)
        ApiKeyRepository(self.storage).issue(issued, active_user(creator.tenant_id, creator.id), kept=None)
        return issued, Api(self.app, issued.secret)

    def reload(self, user: User) -> User:
        return UserRepository(self.storage).get(user.tenant_id, user.id)

    def audit(self, account: Account, **search: Any) -> list[dict[str, Any]]:
        """The organization's audit events, latest first, as its API tells."""
        items: list[dict[str, Any]] = account.api.get("/api/logs/audit", query_string={"limit": 200, **search})["items"]
        return items
