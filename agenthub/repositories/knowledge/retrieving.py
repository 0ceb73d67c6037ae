"""Passages of a knowledge base for a question: search, the very same FAQ first, and what stands around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agenthub.core.errors import Conflict
from agenthub.rag.chunks import Chunk, decode_chunk
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.filters import AndNode, FieldNode, FilterNode
from agenthub.rag.refining import Refinement, choose
from agenthub.rag.reranking import Reranker
from agenthub.rag.searcher import Hit, Mode, Searcher, SearchRequest
from agenthub.rag.segment import analyzer_of
from agenthub.repositories.knowledge.faqs import QUESTION_KEY, question_key
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.models import pinned_embedder

MAX_NEIGHBOURS: Final = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to look. `mode` None is the richest one that the knowledge base allows; so many `neighbours` before and after come along."""

    top_k: int
    mode: Mode | None = None
    filter: FilterNode | None = None
    min_score: float | None = None
    refinement: Refinement = field(default_factory=Refinement)
    neighbours: int = 0
    exact_faqs: bool = True


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found. `exact`: it is the FAQ that asks this very question. `semantic_score` is a cosine, if it is known."""

    knowledge_base_id: str
    chunk: Chunk
    score: float
    semantic_score: float | None
    keyword_score: float | None
    exact: bool = False
    before: tuple[Chunk, ...] = ()
    after: tuple[Chunk, ...] = ()

    @property
    def text(self) -> str:
        """Its text."""
        return self.chunk.text

    @property
    def heading(self) -> str:
        """What it is found by beside its text."""
        return self.chunk.context

    @property
    def cosine(self) -> float | None:
        """How near its meaning is."""
        return self.semantic_score

    @property
    def whole(self) -> bool:
        """Whether it is an answer by itself: a FAQ's."""
        return bool(self.chunk.metadata.get("kind") == "faq" and self.chunk.metadata.get(QUESTION_KEY))

    @property
    def surrounded(self) -> str:
        """Its text with what stands before and after it."""
        return "\n".join(chunk.text for chunk in (*self.before, self.chunk, *self.after))


class Retriever:
    """Finds passages. `reranker` None: asking for it is refused."""

    def __init__(self, embedders: EmbedderCatalog, reranker: Reranker | None = None) -> None:
        self._embedders = embedders
        self._reranker = reranker

    def find(self, base: KnowledgeBase, searcher: Searcher, question: str, wanted: Wanted) -> list[Passage]:
        """The passages of exactly that generation, best first.

        Raises: Conflict for a mode the knowledge base has no model for, or a reranker that isn't there; ModelMismatch; ProviderFailure.
        """
        self.check(wanted)
        return self.refine(base, searcher, question, searcher.search([self._request(base, question, wanted)])[0], wanted)

    def check(self, wanted: Wanted) -> None:
        """Raises: Conflict when a reranker is wanted that isn't there."""
        if wanted.refinement.rerank and self._reranker is None:
            raise Conflict("this server has no reranking endpoint", field="rerank")

    def refine(self, base: KnowledgeBase, searcher: Searcher, question: str | None, hits: Sequence[Hit], wanted: Wanted) -> list[Passage]:
        """What becomes of hits, of which there are `wanted.refinement.depth`. Without a question nothing is reranked and no FAQ looked for.

        Raises: ProviderFailure.
        """
        if wanted.refinement.rerank and self._reranker is not None and question is not None and hits:
            hits = _reordered(hits, self._reranker.scores(question, [hit.text for hit in hits]))
        if wanted.refinement.chooses:
            hits = choose(hits, wanted.top_k, wanted.refinement, analyzer_of(base.language))
        passages = [_passage(base, hit) for hit in hits[: wanted.top_k]]
        if wanted.exact_faqs and question is not None:
            passages = self._with_exact(base, searcher, question, wanted, passages)
        return [_surrounded(passage, searcher, wanted.neighbours) for passage in passages] if wanted.neighbours else passages

    def _request(self, base: KnowledgeBase, question: str, wanted: Wanted) -> SearchRequest:
        mode: Mode = wanted.mode or ("keyword" if base.embedding_model is None else "hybrid")
        vector = None if mode == "keyword" else pinned_embedder(self._embedders, base).embed([question])[0]
        text = None if mode == "semantic" else question
        # A question is prose: what stands in quotation marks there is no demand on its evidence.
        depth = wanted.refinement.depth(wanted.top_k)
        return SearchRequest(text, vector, mode, depth, wanted.filter, wanted.min_score, verbatim=True)

    def _with_exact(
        self, base: KnowledgeBase, searcher: Searcher, question: str, wanted: Wanted, passages: Sequence[Passage]
    ) -> list[Passage]:
        """The same with the FAQ that asks this very question in front, whether it was among them or not."""
        found = exact_faq(searcher, question, wanted.filter)
        if found is None:
            return list(passages)
        present = next((passage for passage in passages if passage.chunk.id == found.id), None)
        top = max((passage.score for passage in passages), default=1.0)
        first = replace(present or Passage(base.id, found, top, None, None), score=top, exact=True)
        return [first, *(passage for passage in passages if passage.chunk.id != found.id)][: wanted.top_k]


def exact_faq(searcher: Searcher, question: str, chosen: FilterNode | None) -> Chunk | None:
    """The chunk of the FAQ with this very question, if the filter lets it through.

    A knowledge base without FAQs costs a look at the names of its fields.
    """
    if not searcher.has_field(QUESTION_KEY):
        return None
    same: FilterNode = FieldNode(QUESTION_KEY, "eq", (question_key(question),))
    return searcher.first_matching(same if chosen is None else AndNode((same, chosen)))


def _reordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    pairs = sorted(zip(hits, scores, strict=True), key=lambda pair: -pair[1])
    return [Hit(hit.chunk, score, hit.semantic_score, hit.keyword_score) for hit, score in pairs]


def _passage(base: KnowledgeBase, hit: Hit) -> Passage:
    return Passage(base.id, decode_chunk(hit.chunk), hit.score, hit.semantic_score, hit.keyword_score)


def _surrounded(passage: Passage, searcher: Searcher, count: int) -> Passage:
    if passage.chunk.document_id is None:
        return passage
    chunks = searcher.document_chunks(passage.chunk.document_id)
    place = next((place for place, chunk in enumerate(chunks) if chunk.id == passage.chunk.id), None)
    if place is None:
        return passage
    return replace(passage, before=tuple(chunks[max(0, place - count) : place]), after=tuple(chunks[place + 1 : place + 1 + count]))


def place_of(metadata: Mapping[str, Any], text: str, start: int, end: int) -> tuple[int | None, int | None]:
    """Where a part of a chunk's text stands in its document: offsets, None where the chunk doesn't know its own.

    A chunk of a table repeats the head line in front of its rows, which have the offsets.
    """
    first, last = metadata.get("start"), metadata.get("end")
    if not isinstance(first, int) or not isinstance(last, int) or last < first:
        return None, None
    repeated = max(0, len(text) - (last - first))
    return first + max(0, start - repeated), min(last, first + max(0, end - repeated))
