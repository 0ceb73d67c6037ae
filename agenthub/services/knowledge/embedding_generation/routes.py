"""HTTP routes of embeddings."""

from __future__ import annotations

from typing import Final, Literal

import orjson
from flask import Blueprint

from agenthub.cache.contract import KindStatistics
from agenthub.cache.policy import KINDS
from agenthub.rag.vector_codec import encode_vector
from agenthub.repositories.platform.roles import OPERATE_CACHE
from agenthub.services.knowledge.embedding_generation.logic import flush, warm
from agenthub.services.knowledge.embedding_generation.schemas import (
    CacheFlush,
    CacheFlushed,
    CacheKindOut,
    CacheOut,
    CacheServerOut,
    CacheWarmed,
    Embed,
    Embedded,
    ModelOut,
    ModelsOut,
    WarmingOut,
)
from agenthub.web.access import operation, principal, resources
from agenthub.web.answers import Raw
from agenthub.web.declare import accepts, refuses, requires, returns

bp = Blueprint("embeddings", __name__)
BLUEPRINTS: Final = (("/api/embeddings", bp),)


@bp.post("")
@requires("embeddings:create")
@accepts(Embed, max_bytes=None)
@returns(Embedded)
@refuses("provider_failure")
def embed_texts(body: Embed) -> Raw:
    """Embed texts; those seen before come from the cache."""
    catalog = resources().embedders
    embedder = catalog.get(body.model) if body.model else catalog.default
    vectors = embedder.embed(body.texts)
    embeddings = list(vectors) if body.encoding == "float" else [encode_vector(vector) for vector in vectors]
    signature = embedder.signature
    answer = {
        "model": signature.model,
        "signature": signature.text,
        "dimension": signature.dimension,
        "embeddings": embeddings,
    }
    return Raw(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


@bp.get("/models")
@requires("embeddings:create")
@returns(ModelsOut)
def list_models() -> ModelsOut:
    """The models a knowledge base can be pinned to."""
    return ModelsOut(items=tuple(ModelOut.model_validate(card, extra="ignore") for card in resources().embedders.models()))


@bp.get("/cache")
@requires("embeddings:create")
@returns(CacheOut)
def get_cache_statistics() -> CacheOut:
    """How often embeddings came from the cache since this process started."""
    totals = resources().embedders.cache_totals()
    held = resources().cache.statistics()
    last = resources().warming.last if "knowledge" in resources().needs else None
    shown = held.servers if "health:read" in principal().permissions else ()  # where our servers are is for those who run them
    return CacheOut(
        backend=held.backend,
        hits=totals.hits,
        misses=totals.misses,
        hit_ratio=_ratio(totals.hits, totals.misses),
        entries=held.entries,
        size_bytes=held.size_bytes,
        max_bytes=held.max_bytes,
        errors=held.errors,
        forged=held.forged,
        kinds=tuple(_kind(kind) for kind in held.kinds),
        warmed=WarmingOut.model_validate(last, from_attributes=True) if last is not None else None,
        servers=tuple(CacheServerOut.model_validate(server, from_attributes=True) for server in shown),
    )


@bp.post("/cache/flush")
@requires(OPERATE_CACHE)
@accepts(CacheFlush)
@returns(CacheFlushed)
@refuses("cache_unavailable")
def flush_cache(body: CacheFlush) -> CacheFlushed:
    """Put all entries of a kind out of use, those of every organization."""
    answer = CacheFlushed(kind=body.kind, reach=_reach())
    flush(resources(), principal().tenant_id, operation(), KINDS[body.kind], answer)
    return answer


@bp.post("/cache/warm")
@requires(OPERATE_CACHE)
@returns(CacheWarmed, status=202)
@refuses("cache_unavailable", "conflict")
def warm_cache() -> CacheWarmed:
    """Open what was busiest lately, behind the requests, in every process."""
    answer = CacheWarmed(reach=_reach())
    warm(resources(), principal().tenant_id, operation(), answer)
    return answer


def _reach() -> Literal["all_processes", "this_process"]:
    return "all_processes" if resources().settings.cache.shared else "this_process"


def _ratio(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


def _kind(seen: KindStatistics) -> CacheKindOut:
    return CacheKindOut(
        kind=seen.kind,
        hits=seen.hits,
        misses=seen.misses,
        hit_ratio=_ratio(seen.hits, seen.misses),
        errors=seen.errors,
        forged=seen.forged,
        read_bytes=seen.read_bytes,
        written_bytes=seen.written_bytes,
        operations=seen.operations,
        mean_ms=seen.seconds / seen.operations * 1000 if seen.operations else None,
    )
