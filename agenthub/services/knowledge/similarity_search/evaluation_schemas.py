"""Request and answer shapes of saved questions and evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from agenthub.services.knowledge.similarity_search.schemas import Mode
from agenthub.web.schema import NO_NUL, Id, Schema

MAX_QUESTIONS: Final = 200
MAX_EXPECTED: Final = 50

QuestionText = Annotated[str, Field(min_length=1, max_length=4_000, pattern=NO_NUL)]
Expected = Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_EXPECTED)]


class QuestionIn(Schema):
    """A question and the documents that should be found for it; FAQs are documents too."""

    question: QuestionText
    expected_document_ids: Expected


class QuestionCreate(QuestionIn):
    """A question to keep."""

    note: str = Field(default="", max_length=1_000, pattern=NO_NUL)


class QuestionUpdate(Schema):
    """What to change; what is left out stays."""

    question: QuestionText | None = None
    expected_document_ids: Expected | None = None
    note: Annotated[str, Field(max_length=1_000, pattern=NO_NUL)] | None = None
    expected_version: int | None = Field(default=None, ge=1, le=2**53, description="409 when it is at another version")


class QuestionOut(Schema):
    """A saved question."""

    id: Id
    knowledge_base_id: Id
    question: str
    expected_document_ids: tuple[str, ...]
    note: str
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class RunSettings(Schema):
    """How to search."""

    mode: Mode | None = None
    filter: dict[str, Any] | None = None
    min_score: float | None = Field(default=None, ge=-1, le=1)
    diversity: float | None = Field(default=None, ge=0, le=1)
    per_document: int | None = Field(default=None, ge=1, le=100)
    rerank: bool = False
    exact_faqs: bool = False


class Run(Schema):
    """One way of answering the questions: a generation (left out: the current one), and settings."""

    generation: int | None = Field(default=None, ge=1, le=2**53, description="410 when it is no longer kept")
    settings: RunSettings = Field(default_factory=RunSettings)


class Evaluate(Run):
    """Questions to evaluate by (left out: the saved ones), and perhaps a second run to compare with."""

    questions: Annotated[tuple[QuestionIn, ...], Field(min_length=1, max_length=MAX_QUESTIONS)] | None = None
    k: int = Field(default=10, ge=1, le=50, description="how many documents of each ranking count")
    compare_with: Run | None = Field(default=None, description="another generation or other settings, asked the same questions")


class QuestionResult(Schema):
    """How one question did. `found` are the documents of the ranking, best first."""

    question: str
    expected_document_ids: tuple[str, ...]
    found: tuple[str, ...]
    ndcg: float
    recall: float
    reciprocal_rank: float


class EvaluationOut(Schema):
    """How well a generation did with these settings: means over all questions, 0..1. `failures`: those that found nothing expected."""

    id: Id
    knowledge_base_id: Id
    generation: int
    settings: dict[str, Any]
    k: int
    question_count: int
    ndcg: float
    recall: float
    mrr: float
    failures: int
    created_by: str
    created_at: datetime


class EvaluationDetail(EvaluationOut):
    """An evaluation with a line for each question, in order."""

    results: tuple[QuestionResult, ...]


class Difference(Schema):
    """A question that the two runs answered differently well."""

    question: str
    ndcg: float
    other_ndcg: float


class EvaluatedOut(Schema):
    """The evaluation, the one it was compared with, and the questions that differ, the greatest losses of the first run first."""

    evaluation: EvaluationDetail
    other: EvaluationDetail | None
    differences: tuple[Difference, ...]
