"""From a conversation to its next message."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from agenthub.core.errors import Conflict, InvalidInput, PayloadTooLarge
from agenthub.core.types import TenantId
from agenthub.llm.contract import Message
from agenthub.rag.answering.calibrated import THRESHOLD
from agenthub.rag.filters import parse_filter
from agenthub.repositories.activity import ActivityTrail, AnswerFigures
from agenthub.repositories.knowledge.answering import HEARTBEAT_SECONDS, Answering, Asked, Opened, Telling, Told
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.retrieving import Retriever, Wanted
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Actor
from agenthub.resources import Resources
from agenthub.services.platform.response_generation.schemas import MAX_ALL, CitationOut, Respond, ResponseOut, Usage
from agenthub.web.streaming import Event


class Responses:
    """Answers the conversations of one caller's organization."""

    def __init__(self, resources: Resources, tenant_id: TenantId, actor: Actor) -> None:
        self._resources = resources
        self._tenant_id = tenant_id
        self._actor = actor
        retriever = Retriever(resources.embedders, resources.reranker)
        self._answering = Answering(resources.embedders, retriever, resources.llm, resources.observer)

    def respond(self, body: Respond) -> ResponseOut:
        """The response, when it is whole.

        Raises: InvalidInput; PayloadTooLarge; NotFound, naming the field, for knowledge bases that are not there; Conflict without a model
        and texts; RateLimited; ProviderFailure.
        """
        started = time.perf_counter()
        telling = self.begin(body)
        for _ in telling.pieces():
            pass
        return self._counted(_shown(telling.told(), started))

    def begin(self, body: Respond) -> Telling:
        """The response as it is written.

        Raises: as `respond`, for all that is known before the first piece.
        """
        asked = self._asked(body)
        if body.context is not None:
            return self._answering.telling(self._answering.find_in(body.context, asked))
        if body.knowledge_base_ids is not None:
            return self._answering.telling(self._answering.find(self._opened(body.knowledge_base_ids), asked))
        if body.answer_by == "extractive":
            raise InvalidInput("sentences of what? give context or knowledge_base_ids", field="context")
        return self._answering.chatting([Message(message.role, message.content) for message in body.messages], asked)

    def events(self, telling: Telling) -> Iterator[Event | None]:
        """The response as events."""
        started = time.perf_counter()
        for piece in telling.pieces(HEARTBEAT_SECONDS):
            yield None if piece is None else Event("text", {"text": piece})
        yield Event("answer", self._counted(_shown(telling.told(), started)))

    def _counted(self, shown: ResponseOut) -> ResponseOut:
        """The response, counted. Raises: StorageUnavailable."""
        tokens = shown.usage.prompt_tokens, shown.usage.completion_tokens
        figures = AnswerFigures(shown.kind, shown.seconds, len(shown.citations), shown.model, *tokens)
        ActivityTrail(self._resources.storage).answered(self._tenant_id, self._actor, "response", figures)
        return shown

    def _asked(self, body: Respond) -> Asked:
        _check(body)
        llm = self._resources.llm
        if llm is None and (body.answer_by == "model" or body.model is not None):
            raise Conflict("this server has no language model", field="answer_by" if body.model is None else "model")
        persona = "\n\n".join(message.content for message in body.messages[:-1] if message.role == "system")
        history = tuple(Message(message.role, message.content) for message in body.messages[:-1] if message.role != "system")
        chosen = parse_filter(body.filter) if body.filter is not None else None
        by_model = llm is not None and body.answer_by != "extractive"
        return Asked(
            question=body.messages[-1].content,
            wanted=Wanted(body.top_k, filter=chosen),
            by=body.answer_by,
            persona=persona,
            history=history,
            model=body.model,
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            # A model that is given texts can say itself that they don't answer; sentences can't.
            least_confidence=0.0 if by_model and body.context is not None else THRESHOLD,
        )

    def _opened(self, ids: Sequence[str]) -> Opened:
        keys = tuple(dict.fromkeys(ids))
        bases = KnowledgeBaseRepository(self._resources.storage)
        bases.must_exist(self._tenant_id, keys, "knowledge_base_ids")
        snapshots = Snapshots(self._resources.storage, self._resources.knowledge)
        return [snapshots.open(self._tenant_id, key) for key in keys]


def _check(body: Respond) -> None:
    if body.messages[-1].role != "user":
        raise InvalidInput("the last message is the user's", field=f"messages[{len(body.messages) - 1}].role")
    if not body.messages[-1].content.strip():
        raise InvalidInput("must not be blank", field=f"messages[{len(body.messages) - 1}].content")
    if body.context is not None and body.knowledge_base_ids is not None:
        raise InvalidInput("give texts or knowledge bases, not both", field="context")
    size = sum(len(message.content) for message in body.messages) + sum(map(len, body.context or ()))
    if size > MAX_ALL:
        raise PayloadTooLarge(f"messages and texts have {size} characters; at most {MAX_ALL} are taken")


def _shown(told: Told, started: float) -> ResponseOut:
    ending = told.ending
    return ResponseOut(
        kind=told.kind,
        text=told.text,
        citations=tuple(CitationOut(**_cited(asdict(citation))) for citation in told.citations),
        model=ending.model if ending else None,
        finish_reason=ending.finish_reason if ending else None,
        usage=Usage(
            prompt_tokens=ending.prompt_tokens if ending else None,
            completion_tokens=ending.completion_tokens if ending else None,
        ),
        seconds=time.perf_counter() - started,
    )


def _cited(citation: dict[str, Any]) -> dict[str, Any]:
    citation.pop("filename")
    return citation | {"knowledge_base_id": citation["knowledge_base_id"] or None}
