"""Questions with the documents that answer them, and how well a generation did on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agenthub.core.errors import NotFound
from agenthub.core.types import KnowledgeBaseId, TenantId
from agenthub.repositories.base import Page, Repository
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import Compare, DeleteWhere, Insert, Table, Write


@dataclass(frozen=True, slots=True)
class SavedQuestion:
    """A question, and the documents of which one or all should be found for it."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    question: str
    expected_document_ids: tuple[str, ...]
    note: str
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well one generation did with these settings. `results` has a line for each question, in order."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    generation: int
    signature: str
    settings: Mapping[str, Any]
    k: int
    question_count: int
    ndcg: float
    recall: float
    mrr: float
    results: Sequence[Mapping[str, Any]]
    created_by: str
    created_at: datetime


class QuestionRepository(Repository[SavedQuestion]):
    """The saved questions of knowledge bases."""

    table = Table.of("kb_questions", SavedQuestion, indexes=[("tenant_id", "knowledge_base_id", "id")])
    entity = SavedQuestion
    resource_kind = "question"

    def get_in(self, tenant_id: TenantId, knowledge_base_id: str, key: str) -> SavedQuestion:
        """The question of that id in that knowledge base.

        Raises: NotFound when it is missing, in another knowledge base or another tenant's.
        """
        found = self.find(tenant_id, key)
        if found is None or found.knowledge_base_id != knowledge_base_id:
            raise NotFound("no question with this id")
        return found

    def page_in(self, tenant_id: TenantId, knowledge_base_id: str, *, limit: int, cursor: str | None = None) -> Page[SavedQuestion]:
        """One page of a knowledge base's questions, newest first."""
        return self.page(tenant_id, where=Compare("knowledge_base_id", "eq", knowledge_base_id), limit=limit, cursor=cursor)


def evaluation_removals(tenant_id: TenantId, knowledge_base_id: str) -> list[Write]:
    """The writes that remove all questions and evaluations of a knowledge base, for the commit that deletes it."""
    mine = Compare("knowledge_base_id", "eq", knowledge_base_id)
    return [DeleteWhere(table, tenant_id, mine) for table in (QuestionRepository.table, EvaluationRepository.table)]


class EvaluationRepository(Repository[Evaluation]):
    """Evaluations, kept until they are deleted."""

    table = Table.of("kb_evaluations", Evaluation, indexes=[("tenant_id", "knowledge_base_id", "id")])
    entity = Evaluation
    resource_kind = "evaluation"

    def add_all(self, evaluations: Sequence[Evaluation], result: Any) -> None:
        """Keep evaluations that were made together; `result` is the request's answer."""
        first, *others = evaluations
        self.add(first, *(Insert(self.table, row_of(other)) for other in others), result=result)

    def get_in(self, tenant_id: TenantId, knowledge_base_id: str, key: str) -> Evaluation:
        """The evaluation of that id in that knowledge base.

        Raises: NotFound when it is missing, in another knowledge base or another tenant's.
        """
        found = self.find(tenant_id, key)
        if found is None or found.knowledge_base_id != knowledge_base_id:
            raise NotFound("no evaluation with this id")
        return found

    def page_in(self, tenant_id: TenantId, knowledge_base_id: str, *, limit: int, cursor: str | None = None) -> Page[Evaluation]:
        """One page of a knowledge base's evaluations, newest first."""
        return self.page(tenant_id, where=Compare("knowledge_base_id", "eq", knowledge_base_id), limit=limit, cursor=cursor)
