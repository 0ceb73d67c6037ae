"""Asking many questions of a generation and judging what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agenthub.core.errors import Conflict, InvalidInput
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.rag.evaluating import quality
from agenthub.rag.filters import parse_filter
from agenthub.rag.refining import Refinement
from agenthub.rag.searcher import MAX_TOP_K, Searcher
from agenthub.repositories.knowledge.evaluations import Evaluation, EvaluationRepository, QuestionRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.retrieving import Retriever, Wanted
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources
from agenthub.services.knowledge.similarity_search.evaluation_schemas import (
    MAX_QUESTIONS,
    Difference,
    Evaluate,
    EvaluatedOut,
    EvaluationDetail,
    QuestionIn,
    Run,
)

_CHUNKS_A_DOCUMENT = 5
"""So many times k hits are looked at, so that k different documents are among them."""


class Evaluations:
    """Evaluates one knowledge base for one request."""

    def __init__(self, resources: Resources, operation: Operation, tenant_id: TenantId, asker: str) -> None:
        self._resources = resources
        self._operation = operation
        self._tenant_id = tenant_id
        self._asker = asker
        self._kept = EvaluationRepository(resources.storage, operation)

    def evaluate(self, knowledge_base_id: str, body: Evaluate) -> EvaluatedOut:
        """The evaluation, kept; with a second one if there is something to compare.

        Raises: NotFound; NotRetained; Conflict without questions, or where the settings can't be; InvalidInput; ProviderFailure.
        """
        snapshots = Snapshots(self._resources.storage, self._resources.knowledge)
        opened = [
            (run, *snapshots.open_at(self._tenant_id, knowledge_base_id, run.generation))
            for run in ((body, body.compare_with) if body.compare_with else (body,))
        ]
        questions = body.questions or self._saved(opened[0][1])
        made = [self._run(run, base, searcher, questions, body.k) for run, base, searcher in opened]
        answer = EvaluatedOut(evaluation=detail(made[0]), other=detail(made[1]) if len(made) > 1 else None, differences=_differences(made))
        self._kept.add_all(made, answer)
        return answer

    def _saved(self, base: KnowledgeBase) -> Sequence[QuestionIn]:
        """The newest saved questions. Raises: Conflict when there are none."""
        page = QuestionRepository(self._resources.storage).page_in(self._tenant_id, base.id, limit=MAX_QUESTIONS)
        if not page.items:
            raise Conflict("no questions are saved; save some, or send them", field="questions")
        return [QuestionIn(question=item.question, expected_document_ids=item.expected_document_ids) for item in page.items]

    def _run(self, run: Run, base: KnowledgeBase, searcher: Searcher, questions: Sequence[QuestionIn], k: int) -> Evaluation:
        settings = run.settings
        wanted = Wanted(
            top_k=min(MAX_TOP_K, k * _CHUNKS_A_DOCUMENT),
            mode=settings.mode,
            filter=parse_filter(settings.filter, "settings.filter") if settings.filter is not None else None,
            min_score=settings.min_score,
            refinement=Refinement(settings.diversity, settings.per_document, settings.rerank),
            exact_faqs=settings.exact_faqs,
        )
        retriever = Retriever(self._resources.embedders, self._resources.reranker)
        results = [self._judged(retriever, base, searcher, question, wanted, k) for question in questions]
        return Evaluation(
            id=new_id(),
            tenant_id=self._tenant_id,
            knowledge_base_id=base.id,
            generation=base.generation,
            signature=base.signature,
            settings=settings.model_dump(mode="json"),
            k=k,
            question_count=len(results),
            ndcg=_mean(results, "ndcg"),
            recall=_mean(results, "recall"),
            mrr=_mean(results, "reciprocal_rank"),
            results=results,
            created_by=self._asker,
            created_at=self._kept.now(),
        )

    def _judged(
        self, retriever: Retriever, base: KnowledgeBase, searcher: Searcher, question: QuestionIn, wanted: Wanted, k: int
    ) -> dict[str, Any]:
        if not question.question.strip():
            raise InvalidInput("must not be blank", field="questions")
        passages = retriever.find(base, searcher, question.question, wanted)
        ranking = list(dict.fromkeys(passage.chunk.document_id for passage in passages if passage.chunk.document_id is not None))[:k]
        expected = tuple(dict.fromkeys(question.expected_document_ids))
        judged = quality(ranking, expected, k)
        return {
            "question": question.question,
            "expected_document_ids": expected,
            "found": ranking,
            "ndcg": judged.ndcg,
            "recall": judged.recall,
            "reciprocal_rank": judged.reciprocal_rank,
        }


def _mean(results: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(float(result[name]) for result in results) / len(results)


def _differences(made: Sequence[Evaluation]) -> tuple[Difference, ...]:
    if len(made) < 2:
        return ()
    pairs = zip(made[0].results, made[1].results, strict=True)
    differing = [(first, second) for first, second in pairs if first["ndcg"] != second["ndcg"]]
    differing.sort(key=lambda pair: pair[0]["ndcg"] - pair[1]["ndcg"])
    return tuple(Difference(question=one["question"], ndcg=one["ndcg"], other_ndcg=two["ndcg"]) for one, two in differing)


def detail(evaluation: Evaluation) -> EvaluationDetail:
    """An evaluation as it is answered."""
    names = [name for name in EvaluationDetail.model_fields if name != "failures"]
    values = {name: getattr(evaluation, name) for name in names}
    return EvaluationDetail.model_validate({**values, "failures": sum(not result["recall"] for result in evaluation.results)})
