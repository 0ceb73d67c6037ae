"""HTTP routes of questions."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.repositories.base import Page, all_of, equal_if
from agenthub.repositories.knowledge.rag_queries import RagQuery, RagQueryRepository
from agenthub.repositories.operations import Operation
from agenthub.services.knowledge.rag_query.logic import Questions, shown
from agenthub.services.knowledge.rag_query.schemas import AnswerOut, Ask, QueryListQuery, QueryOut, Replay, ReplayOut
from agenthub.web.access import operation, principal, repository, resources
from agenthub.web.declare import accepts, refuses, requires, returns, serves, takes
from agenthub.web.schema import ListOf
from agenthub.web.streaming import MEDIA_TYPE, event_stream

bp = Blueprint("rag", __name__)
BLUEPRINTS: Final = (("/api/rag", bp),)


def _questions(writing: Operation) -> Questions:
    return Questions(resources(), writing, principal().tenant_id, principal().user_id)


def _shown(query: RagQuery) -> QueryOut:
    more = {name: getattr(query, name) for name in ("options", "created_by", "created_at", "expires_at")}
    return QueryOut(**shown(query).model_dump(), **more)


@bp.post("/query")
@requires("rag:query")
@accepts(Ask)
@returns(AnswerOut)
@serves(MEDIA_TYPE, "with `stream`: events `sources`, `text`…, and `answer` or `error` as the last one")
@refuses("conflict", "not_retained", "model_mismatch", "rate_limited", "provider_failure")
def ask_question(body: Ask) -> object:
    """Answer a question from knowledge bases, with numbered citations; or say that it is not in them.

    A language model writes the answer where one is configured, else it is made of the best sentences that were found. A streamed
    answer is not bound to an Idempotency-Key: each request is answered anew.
    """
    if not body.stream:
        return _questions(operation()).ask(body)
    events, telling = _questions(Operation(operation().actor)).stream(body)
    return event_stream(events, telling.close)


@bp.get("/queries")
@requires("rag-queries:read")
@takes(QueryListQuery)
@returns(ListOf[QueryOut])
def list_queries(query: QueryListQuery) -> Page[QueryOut]:
    """The organization's questions and their answers, newest first."""
    queries = repository(RagQueryRepository)
    where = all_of(equal_if("agent_id", query.agent_id), equal_if("kind", query.kind), queries.unexpired())
    page = queries.page(principal().tenant_id, where=where, limit=query.limit, cursor=query.cursor)
    return Page(tuple(_shown(item) for item in page.items), page.next_cursor)


@bp.get("/queries/<query_id>")
@requires("rag-queries:read")
@returns(QueryOut)
def get_query(query_id: str) -> QueryOut:
    """One question and its answer."""
    return _shown(repository(RagQueryRepository).get(principal().tenant_id, query_id))


@bp.delete("/queries/<query_id>")
@requires("rag-queries:write")
@returns(None, status=204)
def delete_query(query_id: str) -> None:
    """Forget a question and its answer."""
    repository(RagQueryRepository).remove(principal().tenant_id, query_id)


@bp.post("/queries/<query_id>/replay")
@requires("rag:query")
@accepts(Replay)
@returns(ReplayOut)
@refuses("conflict", "not_retained", "model_mismatch", "rate_limited", "provider_failure")
def replay_query(query_id: str, body: Replay) -> ReplayOut:
    """Ask a question of the history again: of the very generations that answered it, or of those of now. Says what differs."""
    query = repository(RagQueryRepository).get(principal().tenant_id, query_id)
    return _questions(Operation(operation().actor)).replay(query, now=body.against == "now")
