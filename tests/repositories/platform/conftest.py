"""Storages of every kind for the platform repositories, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask

from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.operations import APPLIED_OPERATIONS, AUDIT_EVENTS
from agenthub.repositories.platform.api_keys import API_KEYS
from agenthub.repositories.platform.login_throttle import LOGIN_COUNTERS
from agenthub.repositories.platform.organizations import ORGANIZATIONS, Organization, OrganizationRepository
from agenthub.repositories.platform.roles import Role
from agenthub.repositories.platform.sessions import SESSIONS
from agenthub.repositories.platform.users import USERS, User, UserRepository, new_user
from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import Storage
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables

TABLES = (APPLIED_OPERATIONS, AUDIT_EVENTS, ORGANIZATIONS, USERS, SESSIONS, API_KEYS, LOGIN_COUNTERS)
START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class MovedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()

    def move(self, **parts: float) -> None:
        self.moment += timedelta(**parts)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql", "bigquery"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A storage with the platform's tables; tests keep apart by the ids they make."""
    folder: Path = tmp_path_factory.mktemp("platform")
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/platform.sqlite3"}
    fixtures = {"postgresql": "postgresql_database", "bigquery": "bigquery_url"}
    url = urls.get(request.param) or str(request.getfixturevalue(fixtures[request.param]))
    opened = open_storage(parse_storage_url(url), Flask("platform"))
    create_tables(opened, TABLES)
    yield opened
    opened.close()


class Organizations:
    """Makes organizations and users with names of their own."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def organization(self, *, operator_mark: str | None = None) -> Organization:
        now = self.storage.now()
        organization = Organization(TenantId(new_id()), "Analytical Engines", "active", operator_mark, now, now)
        return OrganizationRepository(self.storage).add(organization)

    def user(self, tenant_id: TenantId, role: Role = "owner") -> User:
        user = new_user(tenant_id, f"{new_id()}@example.org", None, role, "$hash", self.storage.now())
        return UserRepository(self.storage).add(user)

    def with_owner(self) -> User:
        return self.user(self.organization().id)


@pytest.fixture
def made(storage: Storage) -> Organizations:
    return Organizations(storage)
