"""Shapes of the audit log's API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from agenthub.web.schema import Id, Moment, PageQuery, Schema

Word = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[a-z0-9_.-]+$")]
ResourceId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.:-]+$")]


class AuditQuery(PageQuery):
    """Which events: all that is given must match."""

    actor_id: Annotated[Id | SkipJsonSchema[None], Field(description="The user or API key that acted")] = None
    action: Annotated[Word | SkipJsonSchema[None], Field(description="Such as `user.create`")] = None
    resource_kind: Annotated[Word | SkipJsonSchema[None], Field(description="Such as `user` or `document`")] = None
    resource_id: Annotated[ResourceId | SkipJsonSchema[None], Field(description="The thing acted upon")] = None
    result: Annotated[Literal["ok", "denied", "failed"] | SkipJsonSchema[None], Field(description="How it ended")] = None
    since: Annotated[Moment | SkipJsonSchema[None], Field(description="Events at or after this time")] = None
    until: Annotated[Moment | SkipJsonSchema[None], Field(description="Events before this time")] = None


class AuditEventOut(Schema):
    """Who did what to which resource, from where, with which result."""

    id: Id
    at: datetime
    actor_id: str | None
    actor_kind: str
    action: str
    resource_kind: str
    resource_id: str | None
    result: str
    address: str | None
    request_id: str | None
    details: dict[str, Any]
