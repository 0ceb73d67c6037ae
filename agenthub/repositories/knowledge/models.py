"""Which embedder a knowledge base is pinned to."""

from __future__ import annotations

from agenthub.core.errors import Conflict, ModelMismatch
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.embedding.contract import Embedder
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase


def pinned_embedder(embedders: EmbedderCatalog, base: KnowledgeBase) -> Embedder:
    """The embedder that made this knowledge base's vectors.

    Raises: Conflict when vectors come from the client; ModelMismatch when the server's model isn't the pinned one.
    """
    if base.embedding_model is None:
        raise Conflict("this knowledge base has no embedding model: its vectors come from the client")
    embedder = embedders.get(base.embedding_model)
    if embedder.signature.text != base.signature:
        raise ModelMismatch(f"this knowledge base is pinned to {base.signature}; the server now runs {embedder.signature.text}")
    return embedder
