"""HTTP routes of saved questions and evaluations."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.core.errors import InvalidInput
from agenthub.core.ids import new_id
from agenthub.core.types import KnowledgeBaseId
from agenthub.repositories.base import Page
from agenthub.repositories.knowledge.evaluations import EvaluationRepository, QuestionRepository, SavedQuestion
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.services.knowledge.similarity_search.evaluation import Evaluations, detail
from agenthub.services.knowledge.similarity_search.evaluation_schemas import (
    Evaluate,
    EvaluatedOut,
    EvaluationDetail,
    EvaluationOut,
    QuestionCreate,
    QuestionOut,
    QuestionUpdate,
)
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.declare import accepts, refuses, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("evaluations", __name__)
_FIELDS: Final = ("question", "expected_document_ids", "note")


def _base(knowledge_base_id: str) -> KnowledgeBase:
    return repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)


def _question(knowledge_base_id: str, question_id: str) -> SavedQuestion:
    return repository(QuestionRepository).get_in(principal().tenant_id, _base(knowledge_base_id).id, question_id)


@bp.post("/evaluate")
@requires("evaluations:write")
@accepts(Evaluate)
@returns(EvaluatedOut)
@refuses("conflict", "not_retained", "model_mismatch", "provider_failure")
def evaluate(knowledge_base_id: str, body: Evaluate) -> EvaluatedOut:
    """Ask up to 200 questions of a generation and say how well it did: nDCG, recall, reciprocal rank, and the failures.

    With `compare_with` the same questions are asked of another generation or with other settings, so that a change can be judged before
    it is switched on. Evaluations are kept.
    """
    evaluations = Evaluations(resources(), operation(), principal().tenant_id, principal().user_id)
    return evaluations.evaluate(knowledge_base_id, body)


@bp.get("/evaluations")
@requires("evaluations:read")
@takes(PageQuery)
@returns(ListOf[EvaluationOut])
def list_evaluations(knowledge_base_id: str, query: PageQuery) -> Page[EvaluationOut]:
    """The knowledge base's evaluations, newest first, without their questions."""
    base = _base(knowledge_base_id)
    page = repository(EvaluationRepository).page_in(base.tenant_id, base.id, limit=query.limit, cursor=query.cursor)
    return Page(tuple(detail(item) for item in page.items), page.next_cursor)


@bp.get("/evaluations/<evaluation_id>")
@requires("evaluations:read")
@returns(EvaluationDetail)
def get_evaluation(knowledge_base_id: str, evaluation_id: str) -> EvaluationDetail:
    """One evaluation, question by question."""
    base = _base(knowledge_base_id)
    return detail(repository(EvaluationRepository).get_in(base.tenant_id, base.id, evaluation_id))


@bp.delete("/evaluations/<evaluation_id>")
@requires("evaluations:write")
@returns(None, status=204)
def delete_evaluation(knowledge_base_id: str, evaluation_id: str) -> None:
    """Forget an evaluation."""
    base = _base(knowledge_base_id)
    found = repository(EvaluationRepository).get_in(base.tenant_id, base.id, evaluation_id)
    repository(EvaluationRepository).remove(base.tenant_id, found.id)


@bp.post("/questions")
@requires("evaluations:write")
@accepts(QuestionCreate)
@returns(QuestionOut, status=201)
def create_question(knowledge_base_id: str, body: QuestionCreate) -> SavedQuestion:
    """Keep a question with the documents that answer it, for evaluations."""
    base = _base(knowledge_base_id)
    _check_text(body.question)
    now = repository(QuestionRepository).now()
    question = SavedQuestion(
        id=new_id(),
        tenant_id=base.tenant_id,
        knowledge_base_id=KnowledgeBaseId(base.id),
        created_by=principal().user_id,
        created_at=now,
        updated_at=now,
        **body.model_dump(),
    )
    return repository(QuestionRepository).add(question)


@bp.get("/questions")
@requires("evaluations:read")
@takes(PageQuery)
@returns(ListOf[QuestionOut])
def list_questions(knowledge_base_id: str, query: PageQuery) -> Page[SavedQuestion]:
    """The knowledge base's saved questions, newest first."""
    base = _base(knowledge_base_id)
    return repository(QuestionRepository).page_in(base.tenant_id, base.id, limit=query.limit, cursor=query.cursor)


@bp.get("/questions/<question_id>")
@requires("evaluations:read")
@returns(QuestionOut)
def get_question(knowledge_base_id: str, question_id: str) -> SavedQuestion:
    """One saved question."""
    return _question(knowledge_base_id, question_id)


@bp.patch("/questions/<question_id>")
@requires("evaluations:write")
@accepts(QuestionUpdate)
@returns(QuestionOut)
def update_question(knowledge_base_id: str, question_id: str, body: QuestionUpdate) -> SavedQuestion:
    """Change a saved question."""
    found = _question(knowledge_base_id, question_id)
    changes = body.model_dump(mode="json", exclude_unset=True, exclude={"expected_version"})
    for name in _FIELDS:
        if name in changes and changes[name] is None:
            raise InvalidInput("can be left out, but not null", field=name)
    if "question" in changes:
        _check_text(changes["question"])
    changes["updated_at"] = repository(QuestionRepository).now()
    return repository(QuestionRepository).update(found.tenant_id, found.id, changes, expected_version=body.expected_version)


@bp.delete("/questions/<question_id>")
@requires("evaluations:write")
@returns(None, status=204)
def delete_question(knowledge_base_id: str, question_id: str) -> None:
    """Forget a saved question."""
    found = _question(knowledge_base_id, question_id)
    repository(QuestionRepository).remove(found.tenant_id, found.id)


def _check_text(question: str) -> None:
    if not question.strip():
        raise InvalidInput("must not be blank", field="question")
