"""One request's write: applied once whatever is retried, and audited in the same commit.

The `Operation` of a request travels with its repositories. The first commit that has a result seals it: the rows that make
a repeat answer the same (`applied_operations`) and say who did what (`audit_events`) are written in that very commit, so
there is no moment in which the effect exists and its record doesn't (RELIABILITY.md B3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT, TenantId
from agenthub.storage.contract import Compare, DbNow, DeleteWhere, Insert, Row, Storage, Table, Update, Write

RETENTION: Final = timedelta(days=7)
"""How long a repeated Idempotency-Key is recognised."""


@dataclass(frozen=True, slots=True)
class AppliedOperation:
    """What a request with an Idempotency-Key did: the answer to give to its repeats."""

    id: str
    tenant_id: TenantId
    payload_sha256: str
    status: int
    body: bytes
    headers: Mapping[str, Any]
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what to which resource, with which result. No bodies, no secrets."""

    id: str
    tenant_id: TenantId
    at: datetime
    actor_id: str | None
    actor_kind: str
    action: str
    resource_kind: str
    resource_id: str | None
    result: str
    address: str | None
    request_id: str | None
    details: Mapping[str, Any]


APPLIED_OPERATIONS: Final = Table.of("applied_operations", AppliedOperation, indexes=[("expires_at",)])
AUDIT_EVENTS: Final = Table.of(
    "audit_events",
    AuditEvent,
    indexes=[("tenant_id", "at"), ("tenant_id", "actor_id", "at"), ("tenant_id", "action", "at"), ("tenant_id", "resource_id", "at")],
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from where: what audit rows say. `kind` is `user`, `api_key`, `system` or `anonymous`."""

    kind: str = "system"
    id: str | None = None
    address: str | None = None
    request_id: str | None = None


SYSTEM: Final = Actor()

Renderer = Callable[[Any], tuple[int, bytes, Mapping[str, str]]]
"""Turns a handler's result into the status, body and headers of its answer."""


def operation_id(tenant_id: TenantId, actor_id: str, key: str) -> str:
    """The id under which a caller's Idempotency-Key is kept: hex SHA-256, bound to tenant and actor."""
    return hashlib.sha256(f"{tenant_id}\x00{actor_id}\x00{key}".encode()).hexdigest()


@dataclass(slots=True)
class Operation:
    """The write of one request (or of the system). `id` and `payload_sha256` are set when it has an Idempotency-Key."""

    actor: Actor = SYSTEM
    id: str | None = None
    payload_sha256: str = ""
    render: Renderer | None = None
    sealed: bool = field(default=False)

    def records(self, tenant_id: TenantId, result: Any, now: datetime) -> Sequence[Write]:
        """The row that makes a repeat answer the same, once; empty without a key or when already sealed."""
        if self.id is None or self.render is None or self.sealed:
            return ()
        status, body, headers = self.render(result)
        row = AppliedOperation(self.id, tenant_id, self.payload_sha256, status, body, headers, now, now + RETENTION)
        return (Insert(APPLIED_OPERATIONS, row_of(row)),)

    def audit(self, tenant_id: TenantId, action: str, kind: str, resource_id: str | None, now: datetime, **details: Any) -> Write:
        """The audit row of a change that succeeds with this commit."""
        return Insert(AUDIT_EVENTS, row_of(audit_event(self.actor, tenant_id, action, kind, resource_id, now, "ok", details)))


def audit_event(
    actor: Actor,
    tenant_id: TenantId,
    action: str,
    kind: str,
    resource_id: str | None,
    now: datetime,
    result: str,
    details: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """An audit event of this actor; `result` is `ok`, `denied` or `failed`."""
    return AuditEvent(
        new_id(), tenant_id, now, actor.id, actor.kind, action, kind, resource_id, result, actor.address, actor.request_id, details or {}
    )


def row_of(entity: Any) -> Row:
    """An entity's row: a column per field, tuples as lists (shallow: JSON columns hold plain values)."""
    row = {name: getattr(entity, name) for name in entity.__dataclass_fields__}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


class AppliedOperations:
    """Looks up what a request with an Idempotency-Key did before."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def find(self, tenant_id: TenantId, operation_id: str) -> AppliedOperation | None:
        """The operation of that id, or None when it was never applied (or is over 7 days old and swept)."""
        row = self._storage.get(APPLIED_OPERATIONS, tenant_id, operation_id)
        return AppliedOperation(**row) if row else None

    def settle(self, tenant_id: TenantId, operation_id: str, answer: tuple[int, bytes, Mapping[str, str]]) -> None:
        """Let repeats of an operation get this answer: what it began has ended. The first one that is kept stays."""
        status, body, headers = answer
        changes = {"status": status, "body": body, "headers": dict(headers)}
        self._storage.commit([Update(APPLIED_OPERATIONS, tenant_id, operation_id, changes, None, Compare("status", "eq", 202))])

    def sweep(self) -> None:
        """Forget operations past their retention."""
        self._storage.commit([DeleteWhere(APPLIED_OPERATIONS, EVERY_TENANT, Compare("expires_at", "lt", DbNow()))])


class AuditTrail:
    """Appends audit events that belong to no successful change: refusals and failed logins."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def note(self, events: Sequence[AuditEvent]) -> None:
        """Append the events."""
        self._storage.append(AUDIT_EVENTS, [row_of(event) for event in events])
