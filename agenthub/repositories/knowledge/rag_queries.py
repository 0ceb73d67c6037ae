"""Questions that were asked and what was answered, with everything that a replay needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.types import TenantId, TenantScope
from agenthub.repositories.activity import ActivityTrail, AnswerFigures, answer_noted
from agenthub.repositories.base import Repository
from agenthub.storage.contract import And, Compare, DbNow, DeleteWhere, Filter, Query, Table

AnswerKind = Literal["generated", "extractive", "none"]
"""Written by a model, made of sentences of the sources, or that the answer isn't there."""


@dataclass(frozen=True, slots=True)
class RagQuery:
    """One question and its answer. `generations` says which generation of each knowledge base was asked.

    `sources` are all passages that were found, best first, with ids and scores; `citations` those that the answer cites, with the
    passages themselves. It is forgotten after `expires_at`.
    """

    id: str
    tenant_id: TenantId
    question: str
    answer: str
    kind: AnswerKind
    confidence: float
    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    agent_id: str | None
    knowledge_base_ids: tuple[str, ...]
    generations: Mapping[str, int]
    options: Mapping[str, Any]
    sources: Sequence[Mapping[str, Any]]
    citations: Sequence[Mapping[str, Any]]
    created_by: str
    created_at: datetime
    expires_at: datetime


_PAGE: Final = 500
_SERVICE: Final = "rag"


def _figures(query: RagQuery) -> AnswerFigures:
    tokens = query.prompt_tokens, query.completion_tokens
    return AnswerFigures(query.kind, query.seconds, len(query.citations), query.model, *tokens)


class RagQueryRepository(Repository[RagQuery]):
    """The history of questions. Those that expired are found no more, and removed now and then."""

    table = Table.of(
        "rag_queries",
        RagQuery,
        indexes=[("tenant_id", "id"), ("tenant_id", "agent_id", "id"), ("tenant_id", "kind", "id"), ("expires_at",)],
    )
    entity = RagQuery
    resource_kind = "rag_query"

    def find(self, tenant_id: TenantScope, key: str) -> RagQuery | None:
        """The question of that id, unless it expired."""
        found = Repository.find(self, tenant_id, key)
        return found if found and found.expires_at > self.now() else None

    def keep(self, query: RagQuery, answer: Any) -> None:
        """Keep the question, counted in the same commit; `answer` is what repeats of the request get. Raises: OperationRepeated."""
        about = {"subject_id": query.id, "agent_id": query.agent_id}
        counted = answer_noted(query.tenant_id, self._operation.actor, query.created_at, _SERVICE, _figures(query), **about)
        self.add(query, *counted, result=answer)

    def count_only(self, query: RagQuery) -> None:
        """Count the question and keep nothing of it."""
        trail = ActivityTrail(self._storage)
        trail.answered(query.tenant_id, self._operation.actor, _SERVICE, _figures(query), agent_id=query.agent_id)

    def unexpired(self) -> Filter:
        """Those that are not yet to be forgotten."""
        return Compare("expires_at", "gt", DbNow())

    def sweep(self, tenant_id: TenantScope) -> None:
        """Remove those that expired."""
        self._storage.commit([DeleteWhere(self.table, tenant_id, Compare("expires_at", "le", DbNow()))])

    def forget_document(self, tenant_id: TenantId, document_id: str) -> tuple[int, int]:
        """Remove every answer that a document was a source of; how many were looked at and removed."""
        checked = removed = 0
        after: tuple[str, ...] | None = None
        while True:
            rows = self._storage.find(self.table, tenant_id, Query(And(), (), _PAGE, after))
            for row in rows:
                checked += 1
                if any(source["document_id"] == document_id for source in row["sources"]):
                    self._storage.commit([DeleteWhere(self.table, tenant_id, Compare("id", "eq", row["id"]))])
                    removed += 1
            if len(rows) < _PAGE:
                return checked, removed
            after = (rows[-1]["id"],)
