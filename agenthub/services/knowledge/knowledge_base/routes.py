"""HTTP routes of knowledge bases."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.core.errors import AlreadyExists
from agenthub.repositories.base import Page, all_of, equal_if
from agenthub.repositories.knowledge.evaluations import evaluation_removals
from agenthub.repositories.knowledge.heat import HeatRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository, name_key
from agenthub.services.knowledge.knowledge_base import bundle_routes, reembedding_routes, time_routes, verify_routes
from agenthub.services.knowledge.knowledge_base.logic import create
from agenthub.services.knowledge.knowledge_base.schemas import (
    KnowledgeBaseCreate,
    KnowledgeBaseListQuery,
    KnowledgeBaseOut,
    KnowledgeBaseUpdate,
)
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.declare import accepts, requires, returns, takes
from agenthub.web.schema import ListOf

bp = Blueprint("knowledge_bases", __name__)
BLUEPRINTS: Final = tuple(
    ("/api/knowledge-bases", one) for one in (bp, time_routes.bp, bundle_routes.bp, verify_routes.bp, reembedding_routes.bp)
)


@bp.post("")
@requires("knowledge-bases:write")
@accepts(KnowledgeBaseCreate)
@returns(KnowledgeBaseOut, status=201)
def create_knowledge_base(body: KnowledgeBaseCreate) -> KnowledgeBase:
    """Create a knowledge base and pin its embedding model."""
    return create(resources(), operation(), principal(), body)


@bp.get("")
@requires("knowledge-bases:read")
@takes(KnowledgeBaseListQuery)
@returns(ListOf[KnowledgeBaseOut])
def list_knowledge_bases(query: KnowledgeBaseListQuery) -> Page[KnowledgeBase]:
    """The organization's knowledge bases, newest first."""
    where = all_of(equal_if("name_key", name_key(query.name) if query.name else None))
    return repository(KnowledgeBaseRepository).page(principal().tenant_id, where=where, limit=query.limit, cursor=query.cursor)


@bp.get("/<knowledge_base_id>")
@requires("knowledge-bases:read")
@returns(KnowledgeBaseOut)
def get_knowledge_base(knowledge_base_id: str) -> KnowledgeBase:
    """One knowledge base with its statistics."""
    return repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)


@bp.patch("/<knowledge_base_id>")
@requires("knowledge-bases:write")
@accepts(KnowledgeBaseUpdate)
@returns(KnowledgeBaseOut)
def update_knowledge_base(knowledge_base_id: str, body: KnowledgeBaseUpdate) -> KnowledgeBase:
    """Rename or describe a knowledge base."""
    changes = body.model_dump(exclude_unset=True, exclude={"expected_version"})
    if "name" in changes:
        changes["name_key"] = name_key(changes["name"])
    changes["updated_at"] = repository(KnowledgeBaseRepository).now()
    try:
        return repository(KnowledgeBaseRepository).update(
            principal().tenant_id, knowledge_base_id, changes, expected_version=body.expected_version
        )
    except AlreadyExists as error:
        raise AlreadyExists(error.table, ["name"], field="name") from error


@bp.delete("/<knowledge_base_id>")
@requires("knowledge-bases:write")
@returns(None, status=204)
def delete_knowledge_base(knowledge_base_id: str) -> None:
    """Delete a knowledge base with everything in it."""
    tenant_id = principal().tenant_id
    heat = repository(HeatRepository).removal(tenant_id, knowledge_base_id)
    judged = evaluation_removals(tenant_id, knowledge_base_id)
    repository(KnowledgeBaseRepository).retire(tenant_id, knowledge_base_id, heat, *judged)
