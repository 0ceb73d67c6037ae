"""HTTP routes of re-embedding: estimate, build a shadow, compare, switch, roll back, finish."""

from __future__ import annotations

from flask import Blueprint

from agenthub.repositories.knowledge.comparing import Compared, Comparison
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.reembedding_requests import Estimate, ReembeddingRequests, Standing, Wish
from agenthub.services.knowledge.knowledge_base.reembedding_schemas import (
    ComparedOut,
    EstimateOut,
    ReembeddingCompare,
    ReembeddingCreate,
    ReembeddingOut,
    ReembeddingTarget,
)
from agenthub.web.access import jobs, operation, principal, repository, resources
from agenthub.web.answers import Answer
from agenthub.web.declare import accepts, refuses, requires, returns

bp = Blueprint("reembeddings", __name__)


def _requests(knowledge_base_id: str) -> ReembeddingRequests:
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    own = resources()
    return ReembeddingRequests(own.storage, own.knowledge, own.embedders, operation(), base)


def _accepted(standing: Standing) -> Answer:
    return Answer(ReembeddingOut.of(standing), 202)


@bp.post("/<knowledge_base_id>/reembedding/estimate")
@requires("knowledge-bases:write")
@accepts(ReembeddingTarget)
@returns(EstimateOut)
@refuses("conflict", "provider_failure")
def estimate_reembedding(knowledge_base_id: str, body: ReembeddingTarget) -> Estimate:
    """What moving to another model would take. Some chunks are embedded to measure it; nothing is written."""
    return _requests(knowledge_base_id).estimate(body.embedding_model)


@bp.post("/<knowledge_base_id>/reembedding")
@requires("knowledge-bases:write")
@accepts(ReembeddingCreate)
@returns(ReembeddingOut, status=202)
@refuses("conflict", "provider_failure")
def start_reembedding(knowledge_base_id: str, body: ReembeddingCreate) -> Answer:
    """Build a shadow in another model beside the live generation. Searches and writes go on."""
    wish = Wish(body.embedding_model, body.auto_switch, body.chunks_per_second)
    made = _requests(knowledge_base_id).start(wish, principal().user_id, _accepted)
    jobs().notice()
    return _accepted(made)


@bp.get("/<knowledge_base_id>/reembedding")
@requires("knowledge-bases:read")
@returns(ReembeddingOut)
def get_reembedding(knowledge_base_id: str) -> ReembeddingOut:
    """The newest re-embedding and how far it is."""
    return ReembeddingOut.of(_requests(knowledge_base_id).standing())


@bp.post("/<knowledge_base_id>/reembedding/compare")
@requires("knowledge-bases:write")
@accepts(ReembeddingCompare)
@returns(ComparedOut)
@refuses("conflict", "model_mismatch", "provider_failure")
def compare_reembedding(knowledge_base_id: str, body: ReembeddingCompare) -> Compared:
    """How both models do with the saved questions, before anything is switched."""
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    own = resources()
    return Comparison(own.storage, own.knowledge, own.embedders).compare(base, body.k)


@bp.post("/<knowledge_base_id>/reembedding/switch")
@requires("knowledge-bases:write")
@returns(ReembeddingOut, status=202)
@refuses("conflict", "model_mismatch")
def switch_reembedding(knowledge_base_id: str) -> Answer:
    """Let the shadow catch up and take the place of the current generation, in one step."""
    made = _requests(knowledge_base_id).switch(principal().user_id, _accepted)
    jobs().notice()
    return _accepted(made)


@bp.post("/<knowledge_base_id>/reembedding/rollback")
@requires("knowledge-bases:write")
@returns(ReembeddingOut, status=202)
@refuses("conflict", "model_mismatch")
def roll_back_reembedding(knowledge_base_id: str) -> Answer:
    """Go back to the model that was left, with everything that was written since."""
    made = _requests(knowledge_base_id).roll_back(principal().user_id, _accepted)
    jobs().notice()
    return _accepted(made)


@bp.post("/<knowledge_base_id>/reembedding/finish")
@requires("knowledge-bases:write")
@returns(ReembeddingOut)
@refuses("conflict")
def finish_reembedding(knowledge_base_id: str) -> ReembeddingOut:
    """Give up the vectors of the model that was left."""
    requests = _requests(knowledge_base_id)
    return ReembeddingOut.of(requests.standing(requests.finish()))


@bp.post("/<knowledge_base_id>/reembedding/cancel")
@requires("knowledge-bases:write")
@returns(ReembeddingOut)
@refuses("conflict")
def cancel_reembedding(knowledge_base_id: str) -> ReembeddingOut:
    """Give the shadow up and remove its files. The knowledge base stays as it is."""
    requests = _requests(knowledge_base_id)
    return ReembeddingOut.of(requests.standing(requests.cancel()))
