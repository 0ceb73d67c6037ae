"""HTTP routes of agents."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.core.errors import Conflict
from agenthub.core.ids import new_id
from agenthub.core.types import AgentId
from agenthub.repositories.agents.agents import Agent, AgentRepository, AgentVersion, AgentVersionRepository
from agenthub.repositories.base import Page, all_of, equal_if
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.services.agents.agent_management.logic import BulkResult, change_many, change_status
from agenthub.services.agents.agent_management.schemas import (
    AgentCreate,
    AgentListQuery,
    AgentOut,
    AgentUpdate,
    AgentVersionOut,
    BulkOut,
    BulkStatus,
    Publish,
    Rollback,
    StatusChange,
)
from agenthub.web.access import principal, repository
from agenthub.web.declare import accepts, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("agents", __name__)
BLUEPRINTS: Final = (("/api/agents", bp),)


@bp.post("")
@requires("agents:write")
@accepts(AgentCreate)
@returns(AgentOut, status=201)
def create_agent(body: AgentCreate) -> Agent:
    """Create an agent as a draft."""
    tenant_id = principal().tenant_id
    repository(KnowledgeBaseRepository).must_exist(tenant_id, body.knowledge_base_ids, "knowledge_base_ids")
    now = repository(AgentRepository).now()
    agent = Agent(
        id=AgentId(new_id()),
        tenant_id=tenant_id,
        status="draft",
        published_version=None,
        latest_version=0,
        created_by=principal().user_id,
        created_at=now,
        updated_at=now,
        **body.model_dump(),
    )
    return repository(AgentRepository).add(agent)


@bp.get("")
@requires("agents:read")
@takes(AgentListQuery)
@returns(ListOf[AgentOut])
def list_agents(query: AgentListQuery) -> Page[Agent]:
    """The organization's agents, newest first."""
    where = all_of(equal_if("status", query.status))
    return repository(AgentRepository).page(principal().tenant_id, where=where, limit=query.limit, cursor=query.cursor)


@bp.get("/<agent_id>")
@requires("agents:read")
@returns(AgentOut)
def get_agent(agent_id: str) -> Agent:
    """One agent."""
    return repository(AgentRepository).get(principal().tenant_id, agent_id)


@bp.patch("/<agent_id>")
@requires("agents:write")
@accepts(AgentUpdate)
@returns(AgentOut)
def update_agent(agent_id: str, body: AgentUpdate) -> Agent:
    """Change the working draft; what answers is the published version until the next publish."""
    tenant_id = principal().tenant_id
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    repository(KnowledgeBaseRepository).must_exist(tenant_id, changes.get("knowledge_base_ids", ()), "knowledge_base_ids")
    if "knowledge_base_ids" in changes:
        changes["knowledge_base_ids"] = list(changes["knowledge_base_ids"])
    changes["updated_at"] = repository(AgentRepository).now()
    return repository(AgentRepository).update(tenant_id, agent_id, changes, expected_version=body.expected_version)


@bp.delete("/<agent_id>")
@requires("agents:write")
@returns(None, status=204)
def delete_agent(agent_id: str) -> None:
    """Delete an agent and its versions."""
    repository(AgentRepository).remove_with_versions(principal().tenant_id, agent_id)


@bp.post("/<agent_id>/publish")
@requires("agents:write")
@accepts(Publish)
@returns(AgentOut)
def publish_agent(agent_id: str, body: Publish) -> Agent:
    """Freeze the draft as a new immutable version and let it answer."""
    agent = repository(AgentRepository).get(principal().tenant_id, agent_id)
    if agent.status == "archived":
        raise Conflict("an archived agent can't be published; take it out of the archive first")
    if body.expected_version not in (None, agent.version):
        raise Conflict("the draft changed since you read it", field="expected_version")
    return repository(AgentRepository).publish(agent, body.note, principal().user_id)


@bp.post("/<agent_id>/rollback")
@requires("agents:write")
@accepts(Rollback)
@returns(AgentOut)
def roll_back_agent(agent_id: str, body: Rollback) -> Agent:
    """Let an earlier version answer again; the draft becomes equal to it."""
    tenant_id = principal().tenant_id
    agent = repository(AgentRepository).get(tenant_id, agent_id)
    target = repository(AgentVersionRepository).get_number(tenant_id, agent_id, body.number)
    return repository(AgentRepository).roll_back(agent, target)


@bp.get("/<agent_id>/versions")
@requires("agents:read")
@takes(PageQuery)
@returns(ListOf[AgentVersionOut])
def list_agent_versions(agent_id: str, query: PageQuery) -> Page[AgentVersion]:
    """An agent's published versions, newest first."""
    tenant_id = principal().tenant_id
    repository(AgentRepository).get(tenant_id, agent_id)
    return repository(AgentVersionRepository).page_of(tenant_id, agent_id, limit=query.limit, cursor=query.cursor)


@bp.get("/<agent_id>/versions/<int:number>")
@requires("agents:read")
@returns(AgentVersionOut)
def get_agent_version(agent_id: str, number: int) -> AgentVersion:
    """One published version."""
    return repository(AgentVersionRepository).get_number(principal().tenant_id, agent_id, number)


@bp.post("/<agent_id>/status")
@requires("agents:write")
@accepts(StatusChange)
@returns(AgentOut)
def set_agent_status(agent_id: str, body: StatusChange) -> Agent:
    """Activate, pause or archive an agent."""
    now = repository(AgentRepository).now()
    agent, _ = change_status(repository(AgentRepository), principal().tenant_id, agent_id, body.status, now)
    return agent


@bp.post("/bulk-status")
@requires("agents:write")
@accepts(BulkStatus)
@returns(BulkOut)
def set_status_of_many(body: BulkStatus) -> BulkResult:
    """Give many agents one status; each item says what became of it."""
    now = repository(AgentRepository).now()
    return change_many(repository(AgentRepository), principal().tenant_id, body.ids, body.status, now)
