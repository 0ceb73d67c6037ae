"""HTTP route of searches."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.services.knowledge.similarity_search import evaluation_routes
from agenthub.services.knowledge.similarity_search.logic import search
from agenthub.services.knowledge.similarity_search.schemas import Search, SearchOut
from agenthub.web.access import foreseen, principal, resources
from agenthub.web.answers import Answer, Raw
from agenthub.web.declare import accepts, foresees, refuses, requires, returns

bp = Blueprint("search", __name__)
BLUEPRINTS: Final = (
    ("/api/knowledge-bases/<knowledge_base_id>/search", bp),
    ("/api/knowledge-bases/<knowledge_base_id>", evaluation_routes.bp),
)
_MAX_BYTES: Final = 4 * 1024 * 1024
"""A batch of 100 vectors of 4,096 numbers in base64 is 2.2 MB."""


@bp.post("")
@requires("search:query")
@foresees(KnowledgeBaseRepository, "knowledge_base_id")
@accepts(Search, max_bytes=_MAX_BYTES)
@returns(SearchOut, headers={"X-KB-Generation": "the generation that was searched"})
@refuses("not_retained", "conflict", "model_mismatch", "provider_failure")
def search_knowledge_base(knowledge_base_id: str, body: Search) -> Answer:
    """Search by meaning, by keyword or by both; one query or a batch, all answered from one generation."""
    seen = foreseen(KnowledgeBaseRepository, knowledge_base_id)
    generation, answer = search(resources(), principal().tenant_id, knowledge_base_id, body, seen)
    return Answer(Raw(answer), headers={"X-KB-Generation": str(generation)})
