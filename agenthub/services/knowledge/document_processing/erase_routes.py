"""HTTP routes of erasing: hidden at once, gone soon after, with a receipt."""

from __future__ import annotations

from flask import Blueprint

from agenthub.repositories.base import Page, all_of, equal_if
from agenthub.repositories.knowledge.erasing import EraseRequests, Erasure, ErasureRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.services.knowledge.document_processing.schemas import GENERATION, ErasureOut
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.answers import Answer
from agenthub.web.declare import refuses, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("erasures", __name__)


@bp.post("/documents/<document_id>/erase")
@requires("documents:write")
@returns(ErasureOut, status=202, headers={GENERATION: "the generation from which on nobody finds the document"})
@refuses("conflict")
def erase_document(knowledge_base_id: str, document_id: str) -> object:
    """Erase a document: it is hidden when this answers, and all its text, vectors and files are removed soon after.

    The receipt says when that is done, what was checked and what remains where. All older generations end: none of them can be
    searched or restored any more. Named snapshots have to be deleted first.
    """
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    requests = EraseRequests(resources().storage, resources().knowledge, operation())

    def answer(erasure: Erasure) -> Answer:
        return Answer(erasure, 202, {GENERATION: str(erasure.generation)})

    answered: object = requests.request(base, document_id, answer)
    resources().upkeep.notice(base.id)
    return answered


@bp.get("/erasures")
@requires("documents:read")
@takes(PageQuery)
@returns(ListOf[ErasureOut])
def list_erasures(knowledge_base_id: str, query: PageQuery) -> Page[Erasure]:
    """The erasures of a knowledge base, newest first."""
    repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    where = all_of(equal_if("knowledge_base_id", knowledge_base_id))
    return repository(ErasureRepository).page(principal().tenant_id, where=where, limit=query.limit, cursor=query.cursor)


@bp.get("/erasures/<erasure_id>")
@requires("documents:read")
@returns(ErasureOut)
def get_erasure(knowledge_base_id: str, erasure_id: str) -> Erasure:
    """The receipt of an erasure: every place that was checked, and what remains where and why."""
    repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    return repository(ErasureRepository).get_in(principal().tenant_id, knowledge_base_id, erasure_id)
