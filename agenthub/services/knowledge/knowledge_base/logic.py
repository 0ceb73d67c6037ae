"""What makes a new knowledge base: its pinned model, its empty first generation."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

from agenthub.core.errors import AlreadyExists, InvalidInput
from agenthub.core.ids import new_id, random_name
from agenthub.core.types import KnowledgeBaseId
from agenthub.rag.analysis import languages
from agenthub.rag.chunking import CHUNKER_VERSION, ChunkingSettings
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import Pointer
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository, name_key
from agenthub.repositories.operations import Operation
from agenthub.repositories.platform.principals import Principal
from agenthub.resources import Resources
from agenthub.services.knowledge.knowledge_base.schemas import KnowledgeBaseCreate

_NO_MANIFEST = Pointer(0, 0, "", "", 0)


def create(resources: Resources, operation: Operation, principal: Principal, body: KnowledgeBaseCreate) -> KnowledgeBase:
    """A new, empty knowledge base whose first manifest is on the volume.

    Raises: InvalidInput for an unknown language, model or a dimension that isn't the model's; AlreadyExists, field `name`.
    """
    bases = KnowledgeBaseRepository(resources.storage, operation)
    base = _draft(resources, principal, body, bases.now())
    operation_id = operation.id or random_name()
    manifest = Manifest.empty(base.id, base.signature, operation_id, base.created_at)
    pointer = resources.knowledge.put_manifest(base.id, manifest)
    try:
        return bases.create(replace(base.pointing_to(pointer, operation_id, base.created_at), version=1))
    except AlreadyExists as error:
        resources.knowledge.discard_manifest(base.id, pointer)
        if "name_key" in error.columns:
            raise AlreadyExists(error.table, ["name"], field="name") from error
        raise


def _draft(resources: Resources, principal: Principal, body: KnowledgeBaseCreate, now: datetime) -> KnowledgeBase:
    model, dimension, signature = _model(resources, body)
    if body.language not in languages():
        raise InvalidInput(f"unknown language; one of {', '.join(languages())}", field="language")
    chunking = ChunkingSettings(**body.chunking.model_dump())
    return KnowledgeBase(
        id=KnowledgeBaseId(new_id()),
        tenant_id=principal.tenant_id,
        name=body.name,
        name_key=name_key(body.name),
        description=body.description,
        state="active",
        embedding_model=model,
        signature=signature,
        dimension=dimension,
        language=body.language,
        chunking=asdict(chunking) | {"version": CHUNKER_VERSION},
        generation=0,
        epoch=0,
        manifest_name=_NO_MANIFEST.name,
        manifest_sha256=_NO_MANIFEST.sha256,
        manifest_length_bytes=0,
        operation_id="",
        document_count=0,
        chunk_count=0,
        size_bytes=0,
        created_by=principal.user_id,
        created_at=now,
        updated_at=now,
        retained_generations=body.retained_generations,
        retained_seconds=body.retained_seconds,
    )


def _model(resources: Resources, body: KnowledgeBaseCreate) -> tuple[str | None, int, str]:
    """The pinned model, its dimension and signature."""
    own_vectors = "embedding_model" in body.model_fields_set and body.embedding_model is None
    if own_vectors:
        if body.dimension is None:
            raise InvalidInput("without an embedding model, say how long your vectors are", field="dimension")
        return None, body.dimension, f"client;dimension={body.dimension};metric=cosine;normalized"
    embedder = resources.embedders.get(body.embedding_model) if body.embedding_model else resources.embedders.default
    if body.dimension not in (None, embedder.signature.dimension):
        raise InvalidInput(f"this model's vectors have {embedder.signature.dimension} numbers", field="dimension")
    return embedder.signature.model, embedder.signature.dimension, embedder.signature.text
