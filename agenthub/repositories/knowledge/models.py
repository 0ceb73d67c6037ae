"""Which embedder a knowledge base is pinned to."""

from __future__ import annotations

from agenthub.core.errors import Conflict, InvalidInput, ModelMismatch
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.embedding.contract import Embedder
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase


def check_signature(embedders: EmbedderCatalog, embedding_model: str | None, signature: str) -> None:
    """Return if vectors of this signature can be searched here by text; nothing is embedded.

    Raises: ModelMismatch when this server has not the model, or another revision of it. None means the client's own vectors.
    """
    if embedding_model is None:
        return
    try:
        present = embedders.get(embedding_model).signature.text
    except InvalidInput as error:
        raise ModelMismatch(f"this server has no embedding model {embedding_model}", field="embedding_model") from error
    if present != signature:
        raise ModelMismatch(f"the vectors were made by {signature}; this server has {present}", field="embedding_model")


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


def embedder_of(embedders: EmbedderCatalog, embedding_model: str, signature: str) -> Embedder:
    """The embedder of that model, if it still makes vectors of this signature.

    Raises: ModelMismatch when this server has not the model, or another revision of it.
    """
    check_signature(embedders, embedding_model, signature)
    return embedders.get(embedding_model)
