"""The audit log as it is read. It is written by the commits it tells of (repositories/operations.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agenthub.core.types import TenantId
from agenthub.repositories.base import Page, Repository, all_of, equal_if
from agenthub.repositories.operations import AUDIT_EVENTS, Actor, AuditEvent, AuditTrail, audit_event
from agenthub.storage.contract import Compare, Order, Storage

_LATEST_FIRST = (Order("at", descending=True),)

NO_TENANT = TenantId("")
"""Where events are kept that belong to no organization: failed sign-ins to accounts that don't exist."""


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Which events: every field that is given must match; `since` is included, `until` is not."""

    actor_id: str | None = None
    action: str | None = None
    resource_kind: str | None = None
    resource_id: str | None = None
    result: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditEventRepository(Repository[AuditEvent]):
    """The audit log of an organization: read only."""

    table = AUDIT_EVENTS
    entity = AuditEvent

    def search(self, tenant_id: TenantId, search: AuditSearch, *, limit: int, cursor: str | None) -> Page[AuditEvent]:
        """The matching events, latest first.

        Raises: MalformedInput, field `cursor`.
        """
        where = all_of(
            equal_if("actor_id", search.actor_id),
            equal_if("action", search.action),
            equal_if("resource_kind", search.resource_kind),
            equal_if("resource_id", search.resource_id),
            equal_if("result", search.result),
            Compare("at", "ge", search.since) if search.since else None,
            Compare("at", "lt", search.until) if search.until else None,
        )
        return self.page(tenant_id, where=where, order=_LATEST_FIRST, limit=limit, cursor=cursor)


def note_refusal(
    storage: Storage,
    actor: Actor,
    tenant_id: TenantId,
    action: str,
    *,
    kind: str,
    resource_id: str | None = None,
    result: str = "denied",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Append an event of something that was refused (`denied`) or went wrong (`failed`).

    Raises: StorageUnavailable.
    """
    AuditTrail(storage).note([audit_event(actor, tenant_id, action, kind, resource_id, storage.now(), result, details)])
