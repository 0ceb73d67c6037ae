"""How a shadow answers the saved questions, beside the generation it would replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.core.errors import Conflict
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.evaluating import quality
from agenthub.rag.searcher import MAX_TOP_K, Searcher
from agenthub.repositories.knowledge.evaluations import QuestionRepository, SavedQuestion
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.reembeddings import ReembeddingRepository, mirrors_of, moved
from agenthub.repositories.knowledge.retrieving import Retriever, Wanted
from agenthub.repositories.knowledge.shadows import gaps_of, shadow_of
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.storage.contract import Storage

MAX_QUESTIONS: Final = 200
"""The newest saved questions are asked, at most so many."""
MAX_DIFFERENCES: Final = 20
"""Questions that are told one by one: those that got worst, or are answered most differently."""
_CHUNKS_A_DOCUMENT: Final = 5
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Judged:
    """Means over the questions that say which documents they expect; None where none does."""

    embedding_model: str
    ndcg: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in both models: `overlap` is the part of the documents found in one that both found."""

    question: str
    overlap: float
    ndcg: float | None
    shadow_ndcg: float | None
    recall: float | None
    shadow_recall: float | None


@dataclass(frozen=True, slots=True)
class Compared:
    """The model that is searched now, and the other one. `missing_chunks` are not in the shadow yet: it would be better with them."""

    generation: int
    question_count: int
    judged_count: int
    k: int
    overlap: float
    current: Judged
    shadow: Judged
    differences: tuple[Asked, ...]
    missing_chunks: int


class Comparison:
    """Asks both."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, embedders: EmbedderCatalog) -> None:
        self._storage = storage
        self._engine = engine
        self._embedders = embedders
        self._retriever = Retriever(embedders)

    def compare(self, base: KnowledgeBase, k: int) -> Compared:
        """How both do with the saved questions, by meaning alone.

        Raises: NotFound without a re-embedding; Conflict when its shadow isn't there yet or any more, or no questions are saved;
        ModelMismatch; ProviderFailure.
        """
        row = ReembeddingRepository(self._storage).newest_in(base, "ready")
        questions = QuestionRepository(self._storage).page_in(base.tenant_id, base.id, limit=MAX_QUESTIONS).items
        if not questions:
            raise Conflict("no questions are saved; save some first")
        snapshots = Snapshots(self._storage, self._engine)
        opened, searcher = snapshots.open(base.tenant_id, base.id)
        manifest = self._engine.read_manifest(opened.id, opened.pointer)
        mirrors = mirrors_of(self._storage, opened, row.id)
        shadow = self._engine.searcher_over(shadow_of(manifest, mirrors, row.signature), snapshots.tombstones(opened))
        then = self._rankings(opened, searcher, questions, k)
        there = self._rankings(moved(opened, row), shadow, questions, k)
        asked = [_asked(*one, k) for one in zip(questions, then, there, strict=True)]
        judged = [one for one in asked if one.ndcg is not None]
        worst_first = sorted(asked, key=lambda one: ((one.shadow_ndcg or 0.0) - (one.ndcg or 0.0), one.overlap))
        return Compared(
            generation=opened.generation,
            question_count=len(asked),
            judged_count=len(judged),
            k=k,
            overlap=sum(one.overlap for one in asked) / len(asked),
            current=Judged(str(opened.embedding_model), _mean([one.ndcg for one in judged]), _mean([one.recall for one in judged])),
            shadow=Judged(row.embedding_model, _mean([one.shadow_ndcg for one in judged]), _mean([one.shadow_recall for one in judged])),
            differences=tuple(one for one in worst_first if one.overlap < 1 or one.ndcg != one.shadow_ndcg)[:MAX_DIFFERENCES],
            missing_chunks=sum(gap.count for gap in gaps_of(manifest, mirrors)),
        )

    def _rankings(self, base: KnowledgeBase, searcher: Searcher, questions: Sequence[SavedQuestion], k: int) -> list[list[str]]:
        """The documents found for each question, best first."""
        embedder = pinned_embedder(self._embedders, base)
        for start in range(0, len(questions), _BATCH):  # together, so that an endpoint is asked seldom: each is then in the cache
            embedder.embed([one.question for one in questions[start : start + _BATCH]])
        wanted = Wanted(top_k=min(MAX_TOP_K, k * _CHUNKS_A_DOCUMENT), mode="semantic", exact_faqs=False)
        passages = [self._retriever.find(base, searcher, one.question, wanted) for one in questions]
        return [list(dict.fromkeys(p.chunk.document_id or p.chunk.id for p in found))[:k] for found in passages]


def _asked(question: SavedQuestion, found: Sequence[str], there: Sequence[str], k: int) -> Asked:
    union = set(found) | set(there)
    overlap = len(set(found) & set(there)) / len(union) if union else 1.0
    expected = question.expected_document_ids
    if not expected:
        return Asked(question.question, overlap, None, None, None, None)
    now, then = quality(found, expected, k), quality(there, expected, k)
    return Asked(question.question, overlap, now.ndcg, then.ndcg, now.recall, then.recall)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
