"""From a search's body to requests of the engine, and from hits to bytes."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import float32
from numpy.typing import NDArray

from agenthub import __version__
from agenthub.core.errors import InvalidInput
from agenthub.core.types import TenantId
from agenthub.rag.filters import parse_filter
from agenthub.rag.query_text import QueryText
from agenthub.rag.searcher import Searcher, SearchRequest
from agenthub.rag.vector_codec import decode_vector
from agenthub.repositories.knowledge.faqs import QUESTION_KEY
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.retrieving import exact_faq
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.resources import Resources
from agenthub.services.knowledge.similarity_search.hits import hits_json
from agenthub.services.knowledge.similarity_search.refined import refined_answer
from agenthub.services.knowledge.similarity_search.schemas import MAX_REFINED, Mode, Search


def search(
    resources: Resources, tenant_id: TenantId, knowledge_base_id: str, body: Search, seen: KnowledgeBase | None = None
) -> tuple[int, bytes]:
    """The generation searched, and the answer's JSON. `seen` is the knowledge base's row if this request read it already.

    Raises: NotFound; NotRetained for a `generation` of old; InvalidInput naming the field; Conflict when `min_generation` isn't
    there yet; ProviderFailure.
    """
    _check_shape(body)
    snapshots = Snapshots(resources.storage, resources.knowledge)
    if body.generation is not None:
        return _computed(resources, *snapshots.open_at(tenant_id, knowledge_base_id, body.generation), body)
    base = snapshots.current(tenant_id, knowledge_base_id, body.min_generation or 0, seen)
    by_meaning = base.embedding_model is not None and body.mode != "keyword"
    resources.warming.note(base, (_texts(body) or ()) if by_meaning else ())
    if not resources.settings.result_cache:
        return _computed(resources, *snapshots.open(tenant_id, base.id, seen=base), body)

    def make() -> tuple[bytes, bool]:
        opened, searcher = snapshots.open(tenant_id, base.id, seen=base)
        generation, answer = _computed(resources, opened, searcher, body)
        return generation.to_bytes(8, "big") + answer, opened.pointer == base.pointer

    value = resources.cached.result(tenant_id, _name(base, body), make)
    return int.from_bytes(value[:8], "big"), value[8:]


def _name(base: KnowledgeBase, body: Search) -> tuple[str, ...]:
    """All that an answer depends on. The manifest's hash tells apart what a restored database numbers the same."""
    pointer = base.pointer
    asked = body.model_dump_json(exclude={"min_generation", "generation"})
    return (base.id, str(pointer.epoch), str(pointer.generation), pointer.sha256, base.signature, __version__, asked)


def _computed(resources: Resources, base: KnowledgeBase, searcher: Searcher, body: Search) -> tuple[int, bytes]:
    mode, requests = _requests(resources, base, body)
    if body.refines or _asks_a_faq(searcher, body, requests):
        return searcher.generation, refined_answer(resources, base, searcher, body, mode, requests)
    results = [hits_json(hits, body.include) for hits in searcher.search(requests)]
    head = b'{"generation":%d,"mode":"%b",' % (searcher.generation, mode.encode())
    if body.query is not None or body.vector is not None:
        return searcher.generation, b'%b"hits":%b}' % (head, results[0])
    return searcher.generation, b'%b"results":[%b]}' % (head, b",".join(b'{"hits":%b}' % hits for hits in results))


def _asks_a_faq(searcher: Searcher, body: Search, requests: Sequence[SearchRequest]) -> bool:
    """Whether a query is the very question of a FAQ. Without FAQs that costs a look at the names of fields."""
    if not body.exact_faqs or not searcher.has_field(QUESTION_KEY):
        return False
    texts = _texts(body) or ()
    return any(exact_faq(searcher, text, request.filter) is not None for text, request in zip(texts[:MAX_REFINED], requests, strict=False))


def _check_shape(body: Search) -> None:
    single = body.query is not None or body.vector is not None
    batch = body.queries is not None or body.vectors is not None
    if single and batch:
        raise InvalidInput("give one query or a batch, not both", field="queries" if body.queries is not None else "vectors")
    if not single and not batch:
        raise InvalidInput("give query, vector, queries or vectors", field="query")
    if body.generation is not None and body.min_generation is not None:
        raise InvalidInput("give the generation to search or the least one, not both", field="min_generation")
    if body.queries is not None and body.vectors is not None and len(body.queries) != len(body.vectors):
        raise InvalidInput("must be as many as there are queries", field="vectors")


def _requests(resources: Resources, base: KnowledgeBase, body: Search) -> tuple[Mode, list[SearchRequest]]:
    texts = _texts(body)
    vectors = _vectors(base, body)
    mode = body.mode or _richest(base, texts, vectors)
    _check_mode(base, mode, texts, vectors)
    if vectors is None and texts is not None and mode != "keyword":
        marked = mode == "hybrid" and body.query_syntax == "marks"
        meant = [QueryText.of(text).meant for text in texts] if marked else texts
        vectors = list(pinned_embedder(resources.embedders, base).embed(meant))
    count = len(texts if texts is not None else vectors or ())
    chosen = parse_filter(body.filter) if body.filter is not None else None
    requests = [
        SearchRequest(
            texts[i] if texts is not None and mode != "semantic" else None,
            vectors[i] if vectors is not None and mode != "keyword" else None,
            mode,
            body.top_k,
            chosen,
            body.min_score,
            body.query_syntax == "plain",
        )
        for i in range(count)
    ]
    return mode, requests


def _texts(body: Search) -> list[str] | None:
    texts = [body.query] if body.query is not None else list(body.queries) if body.queries is not None else None
    for index, text in enumerate(texts or ()):
        if not text.strip():
            raise InvalidInput("must not be blank", field="query" if body.query is not None else f"queries[{index}]")
    return texts


def _vectors(base: KnowledgeBase, body: Search) -> list[NDArray[float32]] | None:
    if body.vector is not None:
        return [decode_vector(body.vector, base.dimension, "vector")]
    if body.vectors is not None:
        return [decode_vector(vector, base.dimension, f"vectors[{index}]") for index, vector in enumerate(body.vectors)]
    return None


def _richest(base: KnowledgeBase, texts: Sequence[str] | None, vectors: Sequence[NDArray[float32]] | None) -> Mode:
    if texts is None:
        return "semantic"
    return "hybrid" if base.embedding_model is not None or vectors is not None else "keyword"


def _check_mode(base: KnowledgeBase, mode: Mode, texts: Sequence[str] | None, vectors: Sequence[NDArray[float32]] | None) -> None:
    if mode != "semantic" and texts is None:
        raise InvalidInput(f"{mode} search needs a text", field="query")
    if mode != "keyword" and vectors is None and base.embedding_model is None:
        raise InvalidInput(f"{mode} search needs a vector: this knowledge base has no model", field="vector")
