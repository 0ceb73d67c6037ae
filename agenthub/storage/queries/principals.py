"""Whose a credential is: a session or an API key with its user and their organization, in one read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from agenthub.storage.contract import Column, ColumnType, Question, Row, Table

_OWNER_COLUMNS: Final = (
    Column("email", ColumnType.TEXT),
    Column("role", ColumnType.TEXT),
    Column("user_status", ColumnType.TEXT),
    Column("organization_status", ColumnType.TEXT),
    Column("operator_mark", ColumnType.TEXT, nullable=True),
)

# The user must be of the credential's own organization: a join by id alone would trust a wrong row.
_SESSION: Final = """
SELECT sessions.id, sessions.tenant_id, sessions.user_id, sessions.last_seen_at, sessions.idle_expires_at,
       sessions.absolute_expires_at, sessions.idle_seconds,
       users.email, users.role, users.status AS user_status,
       organizations.status AS organization_status, organizations.operator_mark
  FROM sessions
  JOIN users ON users.id = sessions.user_id AND users.tenant_id = sessions.tenant_id
  JOIN organizations ON organizations.id = sessions.tenant_id
 WHERE sessions.token_hash = :secret_hash
"""
_API_KEY: Final = """
SELECT api_keys.id, api_keys.tenant_id, api_keys.created_by AS user_id, api_keys.scopes, api_keys.status,
       api_keys.expires_at, api_keys.last_used_at,
       users.email, users.role, users.status AS user_status,
       organizations.status AS organization_status, organizations.operator_mark
  FROM api_keys
  JOIN users ON users.id = api_keys.created_by AND users.tenant_id = api_keys.tenant_id
  JOIN organizations ON organizations.id = api_keys.tenant_id
 WHERE api_keys.secret_hash = :secret_hash
"""

Answer = Callable[[Callable[[str], Sequence[Row]], Mapping[str, Any]], Sequence[Row]]


def _joined(table: str, user: str, secret: str) -> Answer:
    """The same joins over plain rows."""

    def answer(rows_of: Callable[[str], Sequence[Row]], parameters: Mapping[str, Any]) -> Sequence[Row]:
        return [
            _row(credential, owner, organization) | {"user_id": credential[user]}
            for credential in rows_of(table)
            if credential[secret] == parameters["secret_hash"]
            for owner in rows_of("users")
            if owner["id"] == credential[user] and owner["tenant_id"] == credential["tenant_id"]
            for organization in rows_of("organizations")
            if organization["id"] == credential["tenant_id"]
        ]

    return answer


def _row(credential: Row, owner: Row, organization: Row) -> dict[str, Any]:
    return {
        **credential,
        "email": owner["email"],
        "role": owner["role"],
        "user_status": owner["status"],
        "organization_status": organization["status"],
        "operator_mark": organization["operator_mark"],
    }


def with_row(question: Question, table: Table) -> Question:
    """The question and, in the same statement, the row of the same tenant that has the key `row_key`: its columns as `row_…`.

    Without such a row those are None. So a request that needs both asks the database once.
    """
    statement = question.statements["sql"]
    columns = ", ".join(f"found.{column.name} AS row_{column.name}" for column in table.columns)
    # Names of our own tables and columns; what a caller sent is bound.
    text = (
        f"SELECT who.*, {columns} FROM ({statement}) AS who LEFT JOIN {table.name} AS found"  # noqa: S608
        f" ON found.{table.key} = :row_key AND found.{table.tenant} = who.tenant_id"
    )

    def answer(rows_of: Callable[[str], Sequence[Row]], parameters: Mapping[str, Any]) -> Sequence[Row]:
        return [
            {**who, **{f"row_{column.name}": found[column.name] if found else None for column in table.columns}}
            for who in question.memory(rows_of, parameters)
            for found in [
                next(
                    (r for r in rows_of(table.name) if r[table.key] == parameters["row_key"] and r[table.tenant or ""] == who["tenant_id"]),
                    None,
                )
            ]
        ]

    more = tuple(replace(column, name=f"row_{column.name}", nullable=True) for column in table.columns)
    return Question(f"{question.name}_with_{table.name}", (*question.columns, *more), {"sql": text}, answer)


SESSION_PRINCIPAL: Final = Question(
    "session_principal",
    (
        Column("id", ColumnType.TEXT),
        Column("tenant_id", ColumnType.TEXT),
        Column("user_id", ColumnType.TEXT),
        Column("last_seen_at", ColumnType.TIMESTAMP),
        Column("idle_expires_at", ColumnType.TIMESTAMP),
        Column("absolute_expires_at", ColumnType.TIMESTAMP),
        Column("idle_seconds", ColumnType.INTEGER),
        *_OWNER_COLUMNS,
    ),
    {"sql": _SESSION},
    _joined("sessions", "user_id", "token_hash"),
)
"""The session whose token has the hash `secret_hash`; no row or one."""

API_KEY_PRINCIPAL: Final = Question(
    "api_key_principal",
    (
        Column("id", ColumnType.TEXT),
        Column("tenant_id", ColumnType.TEXT),
        Column("user_id", ColumnType.TEXT),
        Column("scopes", ColumnType.JSON),
        Column("status", ColumnType.TEXT),
        Column("expires_at", ColumnType.TIMESTAMP, nullable=True),
        Column("last_used_at", ColumnType.TIMESTAMP, nullable=True),
        *_OWNER_COLUMNS,
    ),
    {"sql": _API_KEY},
    _joined("api_keys", "created_by", "secret_hash"),
)
"""The API key that has the hash `secret_hash`, with its creator as the user; no row or one."""
