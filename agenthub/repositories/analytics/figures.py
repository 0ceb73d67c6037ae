"""Figures over an organization's events: heavy questions, asked where they do no harm.

With a warehouse they are asked there as soon as the rows of old are in it, else of the database. Which one answered, and how far it
is behind, is part of the answer. A warehouse that is away is an error like any other: a question that is kept away from the
database must not fall upon it just when many ask again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from agenthub.core.errors import MalformedInput
from agenthub.core.types import TenantId
from agenthub.repositories.activity import ActivityKind
from agenthub.storage.contract import Question, Storage
from agenthub.storage.queries.figures import ACTIVITY_BY, AUDIT_BY
from agenthub.storage.warehouse.contract import Warehouse

SESSION_START = "session.start"
_SECONDS_DIGITS = 6
"""Sums of seconds depend on the order of adding beyond this."""

ActivityBy = Literal["day", "name", "actor_id", "agent_id"]
AuditBy = Literal["day", "action", "actor_id", "resource_kind", "result"]


@dataclass(frozen=True, slots=True)
class Span:
    """Events from `since` until before `until`, and which page of their groups: those after the cursor, at most `limit`."""

    since: datetime
    until: datetime
    limit: int = 200
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ActivityFigures:
    """One group of activity events; `key` is what they have in common, empty where they have none. `actors` counts different ones."""

    key: str
    events: int
    actors: int
    quantity: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class AuditFigures:
    """One group of audit events by how they ended; `ok`, `denied` and `failed` make up `events`."""

    key: str
    events: int
    actors: int
    ok: int
    denied: int
    failed: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Groups in the order of their keys, who counted them, and how old what it lacks may be."""

    items: tuple[Any, ...]
    next_cursor: str | None
    source: str
    lag_seconds: float


class Analytics:
    """Answers questions about events. `lag` says how far the warehouse is behind, None while it can't be asked."""

    def __init__(self, storage: Storage, warehouse: Warehouse | None = None, lag: Callable[[], float | None] = lambda: None) -> None:
        self._storage = storage
        self._warehouse = warehouse
        self._lag = lag

    def activity(
        self,
        tenant_id: TenantId,
        kind: ActivityKind,
        by: ActivityBy,
        span: Span,
        *,
        agent_id: str | None = None,
        actor_id: str | None = None,
    ) -> Figures:
        """What happened, by day (UTC), name, actor or agent.

        Raises: MalformedInput, field `cursor`; StorageUnavailable.
        """
        which = {"kind": kind, "agent_id": agent_id or "", "actor_id": actor_id or ""}
        found = self._asked(ACTIVITY_BY[by], tenant_id, span, which)
        rounded = tuple(ActivityFigures(**{**row, "seconds": round(row["seconds"], _SECONDS_DIGITS)}) for row in found.items)
        return Figures(rounded, found.next_cursor, found.source, found.lag_seconds)

    def audit(self, tenant_id: TenantId, by: AuditBy, span: Span, *, action: str | None = None, actor_id: str | None = None) -> Figures:
        """Who did what how often, and how it ended. Raises: as `activity`."""
        found = self._asked(AUDIT_BY[by], tenant_id, span, {"action": action or "", "actor_id": actor_id or ""})
        return Figures(tuple(AuditFigures(**row) for row in found.items), found.next_cursor, found.source, found.lag_seconds)

    def sessions(self, tenant_id: TenantId, by: Literal["day", "actor_id"], span: Span, *, actor_id: str | None = None) -> Figures:
        """Sign-ins: begun sessions (`ok`), refused attempts, and different users. Raises: as `activity`."""
        return self.audit(tenant_id, by, span, action=SESSION_START, actor_id=actor_id)

    def _asked(self, question: Question, tenant_id: TenantId, span: Span, which: Mapping[str, Any]) -> Figures:
        given: dict[str, Any] = {"tenant_id": tenant_id, "since": span.since, "until": span.until, **which}
        given |= {"first": int(span.cursor is None), "after": _decoded(span.cursor), "most": span.limit + 1}
        lag = self._lag() if self._warehouse is not None else None
        if self._warehouse is not None and lag is not None:
            rows, source = self._warehouse.ask(question, given), self._warehouse.backend
        else:
            rows, source = self._storage.ask(question, given), self._storage.backend
        following = _encoded(rows[span.limit - 1]["key"]) if len(rows) > span.limit else None
        return Figures(tuple(rows[: span.limit]), following, source, lag or 0.0)


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(f"k{key}".encode()).rstrip(b"=").decode()


def _decoded(cursor: str | None) -> str:
    """The key that the page before ended with; any text where there was none."""
    if cursor is None:
        return ""
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise MalformedInput("this cursor was not given out by this list", field="cursor") from error
    if not text.startswith("k") or "\x00" in text:
        raise MalformedInput("this cursor was not given out by this list", field="cursor")
    return text[1:]
