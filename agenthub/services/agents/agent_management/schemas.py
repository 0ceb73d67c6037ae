"""Request and answer shapes of agents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from agenthub.repositories.agents.agents import Status
from agenthub.web.schema import Id, JsonMetadata, Name, PageQuery, Schema, Text

SystemPrompt = Annotated[str, Field(max_length=100_000)]
Model = Annotated[str, Field(min_length=1, max_length=200)]
KnowledgeBaseIds = Annotated[tuple[Id, ...], Field(max_length=50)]


class AgentCreate(Schema):
    """A new agent; it starts as a draft."""

    name: Name
    description: Text = ""
    system_prompt: SystemPrompt = ""
    model: Model | None = None
    knowledge_base_ids: KnowledgeBaseIds = ()
    settings: JsonMetadata = Field(default_factory=dict)


class AgentUpdate(Schema):
    """Changes to the working draft; what is left out stays (the defaults here are never applied)."""

    name: Name = "-"
    description: Text = ""
    system_prompt: SystemPrompt = ""
    model: Model | None = None
    knowledge_base_ids: KnowledgeBaseIds = ()
    settings: JsonMetadata = Field(default_factory=dict)
    expected_version: int | None = Field(default=None, ge=1, description="refuse with 409 unless the agent's `version` is this")


class AgentOut(Schema):
    """An agent."""

    id: Id
    name: str
    description: str
    system_prompt: str
    model: str | None
    knowledge_base_ids: tuple[str, ...]
    settings: dict[str, Any]
    status: Status
    published_version: int | None
    latest_version: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class AgentListQuery(PageQuery):
    """Which agents to list."""

    status: Status | None = None


class Publish(Schema):
    """A note for the version's history."""

    note: Text = ""
    expected_version: int | None = Field(default=None, ge=1)


class Rollback(Schema):
    """Which version shall answer again."""

    number: int = Field(ge=1, le=2**31)


class StatusChange(Schema):
    """The status an agent shall have."""

    status: Status


class BulkStatus(Schema):
    """One status for many agents."""

    ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=200)]
    status: Status


class BulkItem(Schema):
    """What became of one agent of a bulk request."""

    id: Id
    result: Literal["changed", "unchanged", "refused"]
    error: dict[str, str] | None = None
    agent: AgentOut | None = None


class BulkOut(Schema):
    """What became of each, in the order asked."""

    items: tuple[BulkItem, ...]
    changed: int
    refused: int


class AgentVersionOut(Schema):
    """An immutable version of an agent."""

    number: int
    agent_id: Id
    name: str
    description: str
    system_prompt: str
    model: str | None
    knowledge_base_ids: tuple[str, ...]
    settings: dict[str, Any]
    note: str
    created_by: str
    created_at: datetime
