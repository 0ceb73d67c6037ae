"""Hits chosen, surrounded, grouped and highlighted: what a search does only when it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from agenthub.core.errors import InvalidInput
from agenthub.rag.answering.passages import Highlighter, Highlights
from agenthub.rag.answering.sentences import sentences_of
from agenthub.rag.refining import Refinement
from agenthub.rag.searcher import Searcher, SearchRequest
from agenthub.rag.segment import analyzer_of
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.retrieving import Passage, Retriever, Wanted
from agenthub.resources import Resources
from agenthub.services.knowledge.similarity_search.schemas import MAX_REFINED, Mode, Search

_MOST_COMPARED: Final = 64
"""So many sentences of hits without a word of the query are compared by meaning; each costs some milliseconds at first."""


def refined_answer(
    resources: Resources, base: KnowledgeBase, searcher: Searcher, body: Search, mode: Mode, requests: Sequence[SearchRequest]
) -> bytes:
    """The answer's JSON.

    Raises: InvalidInput where a text is needed or the batch is too large; Conflict without a reranker; ProviderFailure.
    """
    return _Refined(resources, base, searcher, body, mode).answer(requests)


class _Refined:
    """One search."""

    def __init__(self, resources: Resources, base: KnowledgeBase, searcher: Searcher, body: Search, mode: Mode) -> None:
        self._resources = resources
        self._base = base
        self._searcher = searcher
        self._body = body
        self._mode: Mode = mode
        self._retriever = Retriever(resources.embedders, resources.reranker)
        self._wanted = Wanted(
            top_k=body.top_k,
            refinement=Refinement(body.diversity, body.per_document, body.rerank),
            neighbours=body.neighbours,
            exact_faqs=body.exact_faqs,
        )

    def answer(self, requests: Sequence[SearchRequest]) -> bytes:
        """All results."""
        texts = self._texts(len(requests))
        self._retriever.check(self._wanted)
        depth = self._wanted.refinement.depth(self._body.top_k)
        found = self._searcher.search([replace(request, top_k=depth) for request in requests])
        results = []
        for text, request, hits in zip(texts, requests, found, strict=True):
            wanted = replace(self._wanted, filter=request.filter)
            results.append(self._result(text, self._retriever.refine(self._base, self._searcher, text, hits, wanted)))
        answer: dict[str, Any] = {"generation": self._searcher.generation, "mode": self._mode}
        single = self._body.query is not None or self._body.vector is not None
        return orjson.dumps(answer | (results[0] if single else {"results": results}))

    def _texts(self, count: int) -> Sequence[str | None]:
        """The queries' texts, also of a semantic search, which needs none.

        Raises: InvalidInput.
        """
        body = self._body
        if count > MAX_REFINED and body.refines:
            raise InvalidInput(f"at most {MAX_REFINED} queries where hits are refined", field="queries" if body.queries else "vectors")
        texts: Sequence[str | None] = [body.query] if body.query is not None else body.queries or [None] * count
        for name in ("highlight", "rerank"):
            if getattr(body, name) and texts[0] is None:
                raise InvalidInput("needs the query as a text", field=name)
        return texts

    def _result(self, text: str | None, passages: Sequence[Passage]) -> dict[str, Any]:
        marks: Sequence[Highlights | None] = [None] * len(passages)
        if self._body.highlight and text is not None:
            marks = self._highlights(text, passages)
        result: dict[str, Any] = {"hits": [self._hit(passage, mark) for passage, mark in zip(passages, marks, strict=True)]}
        if self._body.group:
            result["groups"] = _groups(passages)
        return result

    def _hit(self, passage: Passage, marks: Highlights | None) -> dict[str, Any]:
        body, chunk = self._body, passage.chunk
        hit: dict[str, Any] = {"chunk_id": chunk.id, "document_id": chunk.document_id, "score": passage.score}
        if "text" in body.include:
            hit["text"] = chunk.text
            if chunk.context:
                hit["context"] = chunk.context
        if "metadata" in body.include:
            hit["metadata"] = chunk.metadata
        if "scores" in body.include:
            hit |= {"semantic_score": passage.semantic_score, "keyword_score": passage.keyword_score}
        if passage.exact:
            hit["exact"] = True
        if body.neighbours:
            hit["before"] = [{"chunk_id": one.id, "text": one.text} for one in passage.before]
            hit["after"] = [{"chunk_id": one.id, "text": one.text} for one in passage.after]
        if marks is not None:
            hit["highlights"] = {"words": marks.words, "passage": marks.passage}
        return hit

    def _highlights(self, text: str, passages: Sequence[Passage]) -> list[Highlights]:
        """Each passage's. The best sentence is chosen by its words, where none of them occurs by its meaning."""
        highlighter = Highlighter(text, analyzer_of(self._base.language))
        sentences: list[list[str]] = []
        left = _MOST_COMPARED if self._base.embedding_model is not None and self._mode != "keyword" else 0
        for passage in passages:
            found = [] if highlighter.words(passage.text) else [one.text for one in sentences_of(passage.text)]
            sentences.append(found if len(found) <= left else [])
            left -= len(sentences[-1])
        cosines = self._cosines(text, [one for found in sentences for one in found])
        marks = []
        for passage, found in zip(passages, sentences, strict=True):
            closest, cosines = cosines[: len(found)], cosines[len(found) :]
            marks.append(highlighter.mark(passage.text, closest or None))
        return marks

    def _cosines(self, text: str, sentences: Sequence[str]) -> list[float]:
        if not sentences:
            return []
        vectors = pinned_embedder(self._resources.embedders, self._base).embed([text, *sentences])
        return [float(cosine) for cosine in vectors[1:] @ vectors[0]]


def _groups(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    groups: dict[str | None, dict[str, Any]] = {}
    for passage in passages:
        key = passage.chunk.document_id
        group = groups.setdefault(key, {"document_id": key, "score": passage.score, "chunk_ids": []})
        group["chunk_ids"].append(passage.chunk.id)
    return list(groups.values())
