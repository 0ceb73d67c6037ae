"""Shapes of figures."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from agenthub.repositories.activity import ActivityKind
from agenthub.repositories.analytics.figures import ActivityBy, AuditBy
from agenthub.web.schema import Id, Moment, PageQuery, Schema

ActionName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[a-z0-9_.-]+$")]
FiguresT = TypeVar("FiguresT")


class SpanQuery(PageQuery):
    """Which events: at most 400 days of them, the last 30 days unless said otherwise."""

    since: Annotated[Moment | SkipJsonSchema[None], Field(description="Events at or after this time")] = None
    until: Annotated[Moment | SkipJsonSchema[None], Field(description="Events before this time")] = None
    actor_id: Annotated[Id | SkipJsonSchema[None], Field(description="The user or API key that acted")] = None


class ActivityQuery(SpanQuery):
    """Which activity events, and what to group them by."""

    kind: Annotated[ActivityKind, Field(description="What is counted")] = "usage"
    by: Annotated[ActivityBy, Field(description="What the events of a group have in common; days are UTC's")] = "day"
    agent_id: Annotated[Id | SkipJsonSchema[None], Field(description="The agent that answered")] = None


class AuditQuery(SpanQuery):
    """Which audit events, and what to group them by."""

    by: Annotated[AuditBy, Field(description="What the events of a group have in common; days are UTC's")] = "day"
    action: Annotated[ActionName | SkipJsonSchema[None], Field(description="Such as `user.create`")] = None


class SessionsQuery(SpanQuery):
    """Which sign-ins, and what to group them by."""

    by: Annotated[Literal["day", "actor_id"], Field(description="What those of a group have in common; days are UTC's")] = "day"


class ActivityFiguresOut(Schema):
    """A group of activity events. `key` is empty where they have no such thing; `actors` counts different ones."""

    key: str
    events: int
    actors: int
    quantity: float
    seconds: float
    prompt_tokens: int
    completion_tokens: int


class AuditFiguresOut(Schema):
    """A group of audit events, by how they ended."""

    key: str
    events: int
    actors: int
    ok: int
    denied: int
    failed: int


class FiguresOf(Schema, Generic[FiguresT]):
    """One page of groups, by their keys. `source` counted them; what happened in the last `lag_seconds` may be missing."""

    items: tuple[FiguresT, ...]
    next_cursor: str | None
    source: Annotated[str, Field(description="`bigquery`, or the database: `postgresql`, `sqlite` or `memory`")]
    lag_seconds: Annotated[float, Field(ge=0)]

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """`AuditFiguresOutPage` for `FiguresOf[AuditFiguresOut]`."""
        return f"{getattr(params[0], '__name__', 'Figures')}Page"
