"""HTTP routes of embeddings."""

from __future__ import annotations

from typing import Final

import orjson
from flask import Blueprint

from agenthub.rag.vector_codec import encode_vector
from agenthub.services.knowledge.embedding_generation.schemas import CacheOut, CacheServerOut, Embed, Embedded, ModelOut, ModelsOut
from agenthub.web.access import principal, resources
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
    asked = totals.hits + totals.misses
    shown = held.servers if "health:read" in principal().permissions else ()  # where our servers are is for those who run them
    return CacheOut(
        backend=held.backend,
        hits=totals.hits,
        misses=totals.misses,
        hit_ratio=totals.hits / asked if asked else None,
        entries=held.entries,
        size_bytes=held.size_bytes,
        max_bytes=held.max_bytes,
        errors=held.errors,
        forged=held.forged,
        servers=tuple(CacheServerOut.model_validate(server, from_attributes=True) for server in shown),
    )
