"""Chunks of the client's own making: added and replaced by id, a thousand in one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import Conflict, GenerationConflict, InvalidInput, ModelMoved
from agenthub.core.ids import new_id
from agenthub.rag.segment import Chunk
from agenthub.rag.vector_codec import decode_vector
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.documents import DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources
from agenthub.services.knowledge.document_processing.schemas import ChunkIn

_TRIES: Final = 4
"""How often texts are embedded again because the knowledge base was switched to another model meanwhile."""


@dataclass(frozen=True, slots=True)
class Added:
    """What adding chunks did."""

    generation: int
    added: int
    replaced: int
    ids: tuple[str, ...]


AddedAnswer = Callable[[Added], object]
"""Makes the request's answer of what was added."""


def add_chunks(resources: Resources, operation: Operation, base: KnowledgeBase, items: Sequence[ChunkIn], answer: AddedAnswer) -> object:
    """Add the chunks in one commit; those whose id exists are replaced.

    Raises: InvalidInput, naming `items[i].…`, for a bad vector or an id sent twice; Conflict when a vector is missing or unwanted.
    """
    _check_items(items)
    chunks = [Chunk(item.id or new_id(), None, item.text, item.metadata) for item in items]
    resources.upkeep.admit(base)
    for _ in range(_TRIES):
        try:
            return _published(resources, operation, base, items, chunks, answer)
        except ModelMoved:
            base = KnowledgeBaseRepository(resources.storage).get(base.tenant_id, base.id)
    raise GenerationConflict("this knowledge base goes from model to model; try again", retry_after_seconds=1)


def _published(
    resources: Resources, operation: Operation, base: KnowledgeBase, items: Sequence[ChunkIn], chunks: Sequence[Chunk], answer: AddedAnswer
) -> object:
    vectors = _vectors(resources, base, items)
    commits = KnowledgeCommits(resources.storage, resources.knowledge, operation)
    with commits.staging(base) as staging:
        staging.write_segment(chunks, vectors)
        own = [item.id for item in items if item.id]
        answered: object = staging.publish(_plan(resources, operation, own, chunks, answer))
    resources.upkeep.notice(base.id)
    return answered


def _plan(resources: Resources, operation: Operation, own: Sequence[str], chunks: Sequence[Chunk], answer: AddedAnswer) -> Plan:
    ids = tuple(chunk.id for chunk in chunks)
    documents = DocumentRepository(resources.storage, operation)

    def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
        replaced = Snapshots(resources.storage, resources.knowledge).at(base).find_chunks(own) if own else {}
        lost = Counter(chunk.document_id for chunk in replaced.values() if chunk.document_id)
        audit = operation.audit(base.tenant_id, "chunk.create", "knowledge_base", base.id, now, count=len(ids), replaced=len(replaced))
        return Effect(
            answer(Added(generation, len(ids), len(replaced), ids)),
            "add",
            burials=tuple(Burial("chunk", key) for key in replaced),
            writes=(*documents.recounts(base.tenant_id, lost, generation, now), audit),
            chunks_delta=len(ids) - len(replaced),
        )

    return plan


def _check_items(items: Sequence[ChunkIn]) -> None:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item.text.isspace():
            raise InvalidInput("must not be blank", field=f"items[{index}].text")
        if item.id is None:
            continue
        if item.id in seen:
            raise InvalidInput("this id was sent twice", field=f"items[{index}].id")
        seen.add(item.id)


def _vectors(resources: Resources, base: KnowledgeBase, items: Sequence[ChunkIn]) -> NDArray[float32]:
    given = [index for index, item in enumerate(items) if item.vector is not None]
    if base.embedding_model is None:
        if len(given) < len(items):
            missing = next(index for index, item in enumerate(items) if item.vector is None)
            raise InvalidInput("this knowledge base has no model: every item needs a vector", field=f"items[{missing}].vector")
        return np.stack([decode_vector(item.vector or (), base.dimension, f"items[{i}].vector") for i, item in enumerate(items)])
    if given:
        raise Conflict("this knowledge base embeds texts itself; don't send vectors", field=f"items[{given[0]}].vector")
    return pinned_embedder(resources.embedders, base).embed([item.text for item in items])
