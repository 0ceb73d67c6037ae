"""HTTP route that verifies a knowledge base. Repairing is an operator's matter: `python -m agenthub.cli kb verify --repair`."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.inspecting import Budget, Inspected, Inspections
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.services.knowledge.knowledge_base.verify_schemas import VerifyIn, VerifyOut
from agenthub.web.access import principal, repository, resources
from agenthub.web.declare import accepts, refuses, requires, returns

bp = Blueprint("verify", __name__)
BUDGET: Final = Budget(bytes=1024**3, seconds=20.0)
"""What one request reads at most, and how long it may take; a segment that was begun is finished."""


@bp.post("/<knowledge_base_id>/verify")
@requires("knowledge-bases:write")
@accepts(VerifyIn)
@returns(VerifyOut)
@refuses("conflict")
def verify_knowledge_base(knowledge_base_id: str, body: VerifyIn) -> Inspected:
    """Read every byte of one generation and compare it with its hashes, rows with chunks, documents with originals.

    Large knowledge bases take several requests: send `generation` and `next_segment` of the answer again until that is null.
    """
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    storage, engine = resources().storage, resources().knowledge
    if body.generation is not None:
        base = History(storage).at(base, body.generation)
    return Inspections(storage, engine).inspect(base, first_segment=body.first_segment, budget=BUDGET)
