"""HTTP routes of figures over events: the warehouse answers where there is one, else the database; the answer says which."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from flask import Blueprint

from agenthub.core.errors import InvalidInput
from agenthub.repositories.analytics.figures import Figures, Span
from agenthub.services.analytics.analytics_calculation.schemas import (
    ActivityFiguresOut,
    ActivityQuery,
    AuditFiguresOut,
    AuditQuery,
    FiguresOf,
    SessionsQuery,
    SpanQuery,
)
from agenthub.web.access import principal, resources
from agenthub.web.declare import requires, returns, takes

bp = Blueprint("analytics", __name__)
BLUEPRINTS: Final = (("/api/analytics", bp),)
LONGEST: Final = timedelta(days=400)
_USUAL: Final = timedelta(days=30)


@bp.get("/activity")
@requires("analytics:read")
@takes(ActivityQuery)
@returns(FiguresOf[ActivityFiguresOut])
def get_activity(query: ActivityQuery) -> Figures:
    """Uses with their tokens, messages, metrics or turns of jobs, by day, name, actor or agent."""
    tenant_id, analytics = principal().tenant_id, resources().analytics
    return analytics.activity(tenant_id, query.kind, query.by, _span(query), agent_id=query.agent_id, actor_id=query.actor_id)


@bp.get("/audit")
@requires("audit:read")
@takes(AuditQuery)
@returns(FiguresOf[AuditFiguresOut])
def get_audit_figures(query: AuditQuery) -> Figures:
    """Audit events by day, action, actor, kind of resource or result."""
    return resources().analytics.audit(principal().tenant_id, query.by, _span(query), action=query.action, actor_id=query.actor_id)


@bp.get("/sessions")
@requires("audit:read")
@takes(SessionsQuery)
@returns(FiguresOf[AuditFiguresOut])
def get_session_figures(query: SessionsQuery) -> Figures:
    """Sign-ins by day or user: begun sessions are `ok`, refused ones `failed`, and `actors` counts different users."""
    return resources().analytics.sessions(principal().tenant_id, query.by, _span(query), actor_id=query.actor_id)


def _span(query: SpanQuery) -> Span:
    """Raises: InvalidInput, field `since`."""
    until = query.until or resources().storage.now()
    since = query.since or until - _USUAL
    if not timedelta() < until - since <= LONGEST:
        raise InvalidInput(f"must be before `until`, by at most {LONGEST.days} days", field="since")
    return Span(since, until, query.limit, query.cursor)
