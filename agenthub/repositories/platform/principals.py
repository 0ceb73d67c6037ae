"""Who a request comes from: one question to the database per request, every condition checked each time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from agenthub.core.clock import Clock, SystemClock
from agenthub.core.errors import NotFound, StorageUnavailable, VersionConflict
from agenthub.core.types import TenantId, UserId
from agenthub.repositories.platform.api_keys import API_KEYS
from agenthub.repositories.platform.organizations import OPERATOR
from agenthub.repositories.platform.roles import Role, permissions_of
from agenthub.repositories.platform.sessions import SESSIONS
from agenthub.repositories.platform.tokens import SESSION_PREFIX, is_token, token_sha256
from agenthub.storage.contract import Compare, Or, Question, Row, Storage, Table, Update
from agenthub.storage.queries.principals import API_KEY_PRINCIPAL, SESSION_PRINCIPAL, with_row

TOUCH_INTERVAL: Final = timedelta(minutes=1)
"""The use of a credential is noted at most this often."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts in a request. `id` is the user's, or the API key's when `kind` is `api_key`; `session_id` only for users."""

    kind: Literal["user", "api_key"]
    id: str
    user_id: UserId
    tenant_id: TenantId
    role: Role
    permissions: frozenset[str]
    session_id: str | None
    email: str


class Principals:
    """Finds who a token belongs to. Nothing is cached: what was suspended, demoted or ended is so at the next request."""

    def __init__(self, storage: Storage, clock: Clock | None = None) -> None:
        self._storage = storage
        self._clock = clock or SystemClock()

    def find(self, token: str) -> Principal | None:
        """The principal of a session token or API key, or None when it is not, no longer or not now valid.

        Raises: StorageUnavailable when nobody can tell.
        """
        return self._found(token, None, "")[0]

    def find_with(self, token: str, table: Table, key: str) -> tuple[Principal | None, Row | None]:
        """As `find`, and the row of that key in the principal's organization (None: there is none), in the same statement.

        Raises: StorageUnavailable when nobody can tell.
        """
        principal, row = self._found(token, table, key)
        if principal is None or row is None or row[f"row_{table.key}"] is None:
            return principal, None
        return principal, {column.name: row[f"row_{column.name}"] for column in table.columns}

    def _found(self, token: str, table: Table | None, key: str) -> tuple[Principal | None, Row | None]:
        if not is_token(token):
            return None, None
        session = token.startswith(SESSION_PREFIX)
        question = SESSION_PRINCIPAL if session else API_KEY_PRINCIPAL
        parameters = {"secret_hash": token_sha256(token)}
        if table is None:
            rows = self._storage.ask(question, parameters)
        else:
            rows = self._storage.ask(_question_with(question, table), {**parameters, "row_key": key})
        if not rows or rows[0]["user_status"] != "active" or rows[0]["organization_status"] != "active":
            return None, None
        now = self._clock.now()
        return (self._of_session(rows[0], now) if session else self._of_key(rows[0], now)), rows[0]

    def _of_session(self, row: Row, now: datetime) -> Principal | None:
        if now >= row["idle_expires_at"] or now >= row["absolute_expires_at"]:
            return None
        if now - row["last_seen_at"] >= TOUCH_INTERVAL:
            idle = min(now + timedelta(seconds=row["idle_seconds"]), row["absolute_expires_at"])
            self._touch(SESSIONS, row, "last_seen_at", now, {"idle_expires_at": idle})
        user = UserId(row["user_id"])
        return Principal("user", user, user, TenantId(row["tenant_id"]), row["role"], _role_permissions(row), row["id"], row["email"])

    def _of_key(self, row: Row, now: datetime) -> Principal | None:
        if row["status"] != "active" or (row["expires_at"] is not None and now >= row["expires_at"]):
            return None
        if row["last_used_at"] is None or now - row["last_used_at"] >= TOUCH_INTERVAL:
            self._touch(API_KEYS, row, "last_used_at", now, {})
        permissions = _role_permissions(row) & frozenset(row["scopes"])
        return Principal(
            "api_key", row["id"], UserId(row["user_id"]), TenantId(row["tenant_id"]), row["role"], permissions, None, row["email"]
        )

    def _touch(self, table: Table, row: Row, column: str, now: datetime, changes: Mapping[str, Any]) -> None:
        """Note the use of a credential; when that fails the request goes on, and the next one notes it."""
        stale = Or((Compare(column, "is_null"), Compare(column, "le", now - TOUCH_INTERVAL)))
        with suppress(NotFound, VersionConflict, StorageUnavailable):
            self._storage.commit([Update(table, TenantId(row["tenant_id"]), row["id"], {column: now, **changes}, where=stale)])


_MADE: Final[dict[tuple[str, str], Question]] = {}


def _question_with(question: Question, table: Table) -> Question:
    """Made once for each table: a handful."""
    key = (question.name, table.name)
    if key not in _MADE:
        _MADE[key] = with_row(question, table)
    return _MADE[key]


def _role_permissions(row: Row) -> frozenset[str]:
    return permissions_of(row["role"], in_operator_organization=row["operator_mark"] == OPERATOR)
