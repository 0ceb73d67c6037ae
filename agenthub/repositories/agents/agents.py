"""Agents: the working draft, and which version is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from agenthub.core.errors import NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import AgentId, TenantId
from agenthub.repositories.base import Page, Repository
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Compare, DeleteWhere, Insert, Order, Table, Update, Write

Status = Literal["draft", "active", "paused", "archived"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
CONTENT: Final = ("name", "description", "system_prompt", "model", "knowledge_base_ids", "settings")
"""The fields that a version freezes."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent's working draft and state.

    `published_version` is the number of the version that answers, None before the first publish; `latest_version` counts
    versions ever made, so a number is never used twice.
    """

    id: AgentId
    tenant_id: TenantId
    name: str
    description: str
    system_prompt: str
    model: str | None
    knowledge_base_ids: tuple[str, ...]
    settings: Mapping[str, Any]
    status: Status
    published_version: int | None
    latest_version: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """A published version: what the draft was at that moment. Never changed."""

    id: str
    tenant_id: TenantId
    agent_id: AgentId
    number: int
    name: str
    description: str
    system_prompt: str
    model: str | None
    knowledge_base_ids: tuple[str, ...]
    settings: Mapping[str, Any]
    note: str
    created_by: str
    created_at: datetime


class AgentRepository(Repository[Agent]):
    """Agents of a tenant."""

    table = Table.of("agents", Agent, indexes=[("tenant_id", "id"), ("tenant_id", "status", "id")])
    entity = Agent
    resource_kind = "agent"

    def publish(self, agent: Agent, note: str, actor_id: str) -> Agent:
        """Freeze the draft as the next version and let it answer; a draft agent becomes active.

        Raises: VersionConflict when the draft changed since it was read.
        """
        number = agent.latest_version + 1
        now = self._storage.now()
        content = {name: getattr(agent, name) for name in CONTENT}
        frozen = AgentVersion(new_id(), agent.tenant_id, agent.id, number, note=note, created_by=actor_id, created_at=now, **content)
        changes = {
            "published_version": number,
            "latest_version": number,
            "status": "active" if agent.status == "draft" else agent.status,
            "updated_at": now,
        }
        insertion = Insert(AgentVersionRepository.table, row_of(frozen))
        return self.update(agent.tenant_id, agent.id, changes, insertion, expected_version=agent.version, verb="publish")

    def roll_back(self, agent: Agent, to: AgentVersion) -> Agent:
        """Let an earlier version answer again and make the draft equal to it.

        Raises: VersionConflict when the draft changed since it was read.
        """
        changes = {name: getattr(to, name) for name in CONTENT} | {"published_version": to.number, "updated_at": self._storage.now()}
        changes["knowledge_base_ids"] = list(to.knowledge_base_ids)
        return self.update(agent.tenant_id, agent.id, changes, expected_version=agent.version, verb="rollback")

    def remove_with_versions(self, tenant_id: TenantId, key: str) -> None:
        """Delete an agent and every version of it.

        Raises: NotFound when there is no such agent.
        """
        self.remove(tenant_id, key, DeleteWhere(AgentVersionRepository.table, tenant_id, Compare("agent_id", "eq", key)))

    def set_status(self, tenant_id: TenantId, agents: Sequence[Agent], status: Status, now: datetime, *, result: Any) -> None:
        """Give all these agents a status in one commit, guarded by the versions read.

        Raises: VersionConflict, and nothing changed, when one of them changed meanwhile.
        """
        if not agents:
            return
        changes = {"status": status, "updated_at": now}
        writes: list[Write] = [Update(self.table, tenant_id, agent.id, changes, agent.version) for agent in agents]
        writes += [self._operation.audit(tenant_id, "agent.status", "agent", agent.id, now, status=status) for agent in agents[1:]]
        self._commit(tenant_id, writes, result, "status", agents[0].id)


class AgentVersionRepository(Repository[AgentVersion]):
    """Versions of agents; written by `AgentRepository.publish` only."""

    table = Table.of(
        "agent_versions",
        AgentVersion,
        unique=[("tenant_id", "agent_id", "number")],
        indexes=[("tenant_id", "agent_id", "number", "id")],
    )
    entity = AgentVersion
    resource_kind = "agent_version"

    def get_number(self, tenant_id: TenantId, agent_id: str, number: int) -> AgentVersion:
        """The version of that number.

        Raises: NotFound when there is none.
        """
        found = self._find_one(tenant_id, agent_id=agent_id, number=number)
        if found is None:
            raise NotFound(f"this agent has no version {number}")
        return found

    def page_of(self, tenant_id: TenantId, agent_id: str, *, limit: int, cursor: str | None) -> Page[AgentVersion]:
        """An agent's versions, newest first."""
        where = Compare("agent_id", "eq", agent_id)
        return self.page(tenant_id, where=where, order=(Order("number", descending=True),), limit=limit, cursor=cursor)
