"""What is counted: uses, messages, metrics and the turns of jobs, as rows that are only ever added.

They are written by the commit they tell of, as audit events are. They hold no text of anybody: what was asked and answered stays
in its own table, where it can be erased; these rows flow to the warehouse and stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.repositories.operations import Actor, row_of
from agenthub.storage.contract import Insert, Storage, Table, Write

ActivityKind = Literal["usage", "message", "metric", "job"]
KINDS: Final[tuple[ActivityKind, ...]] = get_args(ActivityKind)


@dataclass(frozen=True, slots=True)
class ActivityEvent:
    """One thing that happened and can be counted.

    `name` says what within its kind, such as `rag.answer`. `subject_id` is what it is about: a question, a job. `quantity` is how
    many or how much, `seconds` how long it took; tokens are the language model's.
    """

    id: str
    tenant_id: TenantId
    at: datetime
    kind: ActivityKind
    name: str
    actor_kind: str
    actor_id: str | None
    agent_id: str | None
    subject_id: str | None
    quantity: float
    seconds: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    details: Mapping[str, Any]


ACTIVITY_EVENTS: Final = Table.of("activity_events", ActivityEvent, indexes=[("tenant_id", "at"), ("tenant_id", "kind", "at")])


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of an event, where it has any."""

    quantity: float = 1.0
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def noted(
    tenant_id: TenantId,
    actor: Actor,
    now: datetime,
    kind: ActivityKind,
    name: str,
    *,
    subject_id: str | None = None,
    agent_id: str | None = None,
    measured: Measured | None = None,
) -> Write:
    """The write that adds an event, for the commit of what it tells of."""
    figures = measured or Measured()
    event = ActivityEvent(
        id=new_id(),
        tenant_id=tenant_id,
        at=now,
        kind=kind,
        name=name,
        actor_kind=actor.kind,
        actor_id=actor.id,
        agent_id=agent_id,
        subject_id=subject_id,
        quantity=figures.quantity,
        seconds=figures.seconds,
        prompt_tokens=figures.prompt_tokens,
        completion_tokens=figures.completion_tokens,
        details=dict(figures.details),
    )
    return Insert(ACTIVITY_EVENTS, row_of(event))


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """What is counted of an answer: how it was made, and what it took."""

    kind: str
    seconds: float
    citation_count: int
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def answer_noted(
    tenant_id: TenantId,
    actor: Actor,
    now: datetime,
    by: str,
    figures: AnswerFigures,
    *,
    subject_id: str | None = None,
    agent_id: str | None = None,
) -> list[Write]:
    """The writes that count an answer of the service `by`: as a use, with its tokens, and as a message, by how it was made."""
    used = Measured(1.0, figures.seconds, figures.prompt_tokens, figures.completion_tokens, {"model": figures.model})
    said = Measured(1.0, figures.seconds, details={"citations": figures.citation_count})
    about = {"subject_id": subject_id, "agent_id": agent_id}
    return [
        noted(tenant_id, actor, now, "usage", f"{by}.answer", measured=used, **about),
        noted(tenant_id, actor, now, "message", f"{by}.{figures.kind}", measured=said, **about),
    ]


class ActivityTrail:
    """Counts what changes nothing else: answers that aren't kept."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def answered(self, tenant_id: TenantId, actor: Actor, by: str, figures: AnswerFigures, *, agent_id: str | None = None) -> None:
        """Count an answer of the service `by`. Raises: StorageUnavailable."""
        self._storage.commit(answer_noted(tenant_id, actor, self._storage.now(), by, figures, agent_id=agent_id))
