"""Who a request comes from: one question to the database per request, every condition checked each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from agenthub.core.clock import Clock, SystemClock
from agenthub.core.errors import NotFound, StorageUnavailable, VersionConflict
from agenthub.core.types import TenantId, UserId
from agenthub.repositories.platform.api_keys import API_KEYS
from agenthub.repositories.platform.organizations import OPERATOR, ORGANIZATIONS
from agenthub.repositories.platform.roles import Role, permissions_of
from agenthub.repositories.platform.sessions import SESSIONS
from agenthub.repositories.platform.tokens import SESSION_PREFIX, is_token, token_sha256
from agenthub.repositories.platform.users import USERS
from agenthub.storage.contract import Column, Compare, Or, Question, Row, Storage, Table, Update

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


# The user must be of the credential's own organization: a join by id alone would trust a wrong row.
_OWNER_JOIN: Final = """
  JOIN users ON users.id = {table}.{user} AND users.tenant_id = {table}.tenant_id
  JOIN organizations ON organizations.id = {table}.tenant_id
 WHERE {table}.{secret} = :secret_hash
"""

_OWNER_COLUMNS: Final = {
    "email": (USERS, "email"),
    "role": (USERS, "role"),
    "user_status": (USERS, "status"),
    "organization_status": (ORGANIZATIONS, "status"),
    "operator_mark": (ORGANIZATIONS, "operator_mark"),
}


def _question(name: str, table: Table, user: str, secret: str, names: Sequence[str]) -> Question:
    """The credential of a hash joined with its user and organization."""
    sources = {column: (table, column) for column in names} | _OWNER_COLUMNS
    columns = tuple(Column(alias, of.column(name).type, of.column(name).nullable) for alias, (of, name) in sources.items())
    selected = ", ".join(f"{of.name}.{name} AS {alias}" for alias, (of, name) in sources.items())
    statement = f"SELECT {selected} FROM {table.name}" + _OWNER_JOIN.format(table=table.name, user=user, secret=secret)

    def answer(rows_of: Callable[[str], Sequence[Row]], parameters: Mapping[str, Any]) -> Sequence[Row]:
        joined = [
            {table.name: credential, USERS.name: owner, ORGANIZATIONS.name: organization}
            for credential in rows_of(table.name)
            if credential[secret] == parameters["secret_hash"]
            for owner in rows_of(USERS.name)
            if owner["id"] == credential[user] and owner["tenant_id"] == credential["tenant_id"]
            for organization in rows_of(ORGANIZATIONS.name)
            if organization["id"] == credential["tenant_id"]
        ]
        return [{alias: rows[of.name][column] for alias, (of, column) in sources.items()} for rows in joined]

    return Question(name, columns, {"sql": statement}, answer)


_SESSION_COLUMNS: Final = ("id", "tenant_id", "user_id", "last_seen_at", "idle_expires_at", "absolute_expires_at", "idle_seconds")
_KEY_COLUMNS: Final = ("id", "tenant_id", "created_by", "scopes", "status", "expires_at", "last_used_at")

SESSION_PRINCIPAL: Final = _question("session_principal", SESSIONS, "user_id", "token_hash", _SESSION_COLUMNS)
API_KEY_PRINCIPAL: Final = _question("api_key_principal", API_KEYS, "created_by", "secret_hash", _KEY_COLUMNS)


class Principals:
    """Finds who a token belongs to. Nothing is cached: what was suspended, demoted or ended is so at the next request."""

    def __init__(self, storage: Storage, clock: Clock | None = None) -> None:
        self._storage = storage
        self._clock = clock or SystemClock()

    def find(self, token: str) -> Principal | None:
        """The principal of a session token or API key, or None when it is not, no longer or not now valid.

        Raises: StorageUnavailable when nobody can tell.
        """
        if not is_token(token):
            return None
        session = token.startswith(SESSION_PREFIX)
        question = SESSION_PRINCIPAL if session else API_KEY_PRINCIPAL
        rows = self._storage.ask(question, {"secret_hash": token_sha256(token)})
        if not rows or rows[0]["user_status"] != "active" or rows[0]["organization_status"] != "active":
            return None
        now = self._clock.now()
        return self._of_session(rows[0], now) if session else self._of_key(rows[0], now)

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
            "api_key", row["id"], UserId(row["created_by"]), TenantId(row["tenant_id"]), row["role"], permissions, None, row["email"]
        )

    def _touch(self, table: Table, row: Row, column: str, now: datetime, changes: Mapping[str, Any]) -> None:
        """Note the use of a credential; when that fails the request goes on, and the next one notes it."""
        stale = Or((Compare(column, "is_null"), Compare(column, "le", now - TOUCH_INTERVAL)))
        with suppress(NotFound, VersionConflict, StorageUnavailable):
            self._storage.commit([Update(table, TenantId(row["tenant_id"]), row["id"], {column: now, **changes}, where=stale)])


def _role_permissions(row: Row) -> frozenset[str]:
    return permissions_of(row["role"], in_operator_organization=row["operator_mark"] == OPERATOR)
