"""HTTP routes of the audit log. There is none that writes or deletes: events come with the commits they tell of."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.repositories.base import Page
from agenthub.repositories.operations import AuditEvent
from agenthub.repositories.platform.audit_events import AuditEventRepository, AuditSearch
from agenthub.services.platform.logging.schemas import AuditEventOut, AuditQuery
from agenthub.web.access import principal, repository
from agenthub.web.declare import requires, returns, takes
from agenthub.web.schema import ListOf

bp = Blueprint("logs", __name__)
BLUEPRINTS: Final = (("/api/logs", bp),)


@bp.get("/audit")
@requires("audit:read")
@takes(AuditQuery)
@returns(ListOf[AuditEventOut])
def list_audit_events(query: AuditQuery) -> Page[AuditEvent]:
    """The organization's audit log, latest first."""
    search = AuditSearch(**query.model_dump(exclude={"limit", "cursor"}))
    return repository(AuditEventRepository).search(principal().tenant_id, search, limit=query.limit, cursor=query.cursor)
