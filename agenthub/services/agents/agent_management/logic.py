"""The rules of an agent's life: which status may follow which, and what a bulk change answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from agenthub.core.errors import Conflict, VersionConflict
from agenthub.core.types import TenantId
from agenthub.repositories.agents.agents import Agent, AgentRepository, Status

_FOLLOWERS: Final[Mapping[Status, frozenset[Status]]] = {
    "draft": frozenset({"archived"}),
    "active": frozenset({"paused", "archived"}),
    "paused": frozenset({"active", "archived"}),
    "archived": frozenset({"paused"}),
}
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one agent of a bulk change."""

    id: str
    result: Literal["changed", "unchanged", "refused"]
    error: Mapping[str, str] | None = None
    agent: Agent | None = None


def check_transition(agent: Agent, status: Status) -> None:
    """Whether an agent may go to this status.

    Raises: Conflict, field `status`, when it may not: an agent is active only once it has a published version.
    """
    if status == agent.status:
        return
    if status in ("active", "paused") and agent.published_version is None:
        raise Conflict("publish a version first: an agent without one can't answer", field="status")
    if status not in _FOLLOWERS[agent.status]:
        raise Conflict(f"an agent can't go from {agent.status} to {status}", field="status")


def change_status(agents: AgentRepository, tenant_id: TenantId, key: str, status: Status, now: datetime) -> tuple[Agent, bool]:
    """Give one agent a status; says whether that changed anything.

    Raises: NotFound; Conflict when the status may not follow the present one.
    """
    for _ in range(_TRIES):
        agent = agents.get(tenant_id, key)
        check_transition(agent, status)
        if agent.status == status:
            return agent, False
        try:
            changes = {"status": status, "updated_at": now}
            return agents.update(tenant_id, key, changes, expected_version=agent.version, verb="status"), True
        except VersionConflict:
            continue
    raise VersionConflict("this agent is being changed by others; try again")


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of each agent of a bulk change, in the order asked."""

    items: tuple[Outcome, ...]
    changed: int
    refused: int


def change_many(agents: AgentRepository, tenant_id: TenantId, ids: Sequence[str], status: Status, now: datetime) -> BulkResult:
    """Give many agents a status: all that may have it in one commit, the others refused one by one.

    Raises: VersionConflict when other writers kept changing them.
    """
    keys = list(dict.fromkeys(ids))
    for _ in range(_TRIES):
        known = agents.get_many(tenant_id, keys)
        outcomes = tuple(_outcome(key, known.get(key), status, now) for key in keys)
        result = BulkResult(outcomes, _number(outcomes, "changed"), _number(outcomes, "refused"))
        movable = [known[outcome.id] for outcome in outcomes if outcome.result == "changed"]
        try:
            agents.set_status(tenant_id, movable, status, now, result=result)
        except VersionConflict:
            continue
        return result
    raise VersionConflict("these agents are being changed by others; try again")


def _outcome(key: str, agent: Agent | None, status: Status, now: datetime) -> Outcome:
    if agent is None:
        return Outcome(key, "refused", {"code": "not_found", "message": "no agent with this id"})
    try:
        check_transition(agent, status)
    except Conflict as error:
        return Outcome(key, "refused", {"code": "conflict", "message": error.message}, agent)
    if agent.status == status:
        return Outcome(key, "unchanged", None, agent)
    return Outcome(key, "changed", None, replace(agent, status=status, updated_at=now, version=agent.version + 1))


def _number(outcomes: Sequence[Outcome], result: str) -> int:
    return sum(outcome.result == result for outcome in outcomes)
