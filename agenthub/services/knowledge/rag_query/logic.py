"""From a question's body to its answer, its place in the history, and its replay."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from agenthub.core.errors import Conflict, InvalidInput
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId
from agenthub.rag.answering.calibrated import THRESHOLD
from agenthub.rag.filters import parse_filter
from agenthub.rag.refining import Refinement
from agenthub.repositories.agents.agents import Agent, AgentRepository, AgentVersion, AgentVersionRepository
from agenthub.repositories.knowledge.answering import HEARTBEAT_SECONDS, Answering, Asked, Found, Opened, Telling, Told
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.rag_queries import RagQuery, RagQueryRepository
from agenthub.repositories.knowledge.retrieving import Passage, Retriever, Wanted
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources
from agenthub.services.knowledge.rag_query.schemas import (
    MAX_KNOWLEDGE_BASES,
    AnswerOut,
    Ask,
    AskOptions,
    CitationOut,
    ReplayOut,
    SourceOut,
    Usage,
)
from agenthub.web.streaming import Event


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is asked: knowledge bases, and the version of an agent that asks them."""

    bases: tuple[KnowledgeBase, ...]
    agent: AgentVersion | None = None


class Questions:
    """Answers the questions of one caller."""

    def __init__(self, resources: Resources, operation: Operation, tenant_id: TenantId, asker: str) -> None:
        self._resources = resources
        self._operation = operation
        self._tenant_id = tenant_id
        self._asker = asker
        self._snapshots = Snapshots(resources.storage, resources.knowledge)
        self._answering = Answering(
            resources.embedders, Retriever(resources.embedders, resources.reranker), resources.llm, resources.observer
        )

    # --- answering ---

    def ask(self, body: Ask) -> AnswerOut:
        """The answer, kept in the history.

        Raises: NotFound, naming the field, for what is not there; Conflict for an agent that doesn't answer, or a model or reranker
        that is not configured; InvalidInput; RateLimited; ProviderFailure.
        """
        subject = self._subject(body)
        started = time.perf_counter()
        found = self._find(self._open(subject.bases), body.question, body, subject.agent)
        told = self._answering.tell(found)
        query = self._query(body, subject, found, told, time.perf_counter() - started)
        return self._kept(query)

    def stream(self, body: Ask) -> tuple[Iterator[Event | None], Telling]:
        """The events of an answer, and what to close when nobody listens any more. The answer is kept when it is whole.

        Raises: as `ask`, for all that is known before the first event.
        """
        subject = self._subject(body)
        started = time.perf_counter()
        found = self._find(self._open(subject.bases), body.question, body, subject.agent)
        telling = self._answering.telling(found)
        return self._events(body, subject, found, telling, started), telling

    def _events(self, body: Ask, subject: _Subject, found: Found, telling: Telling, started: float) -> Iterator[Event | None]:
        sources = [source.model_dump() for source in _sources(found.passages)]
        yield Event("sources", {"sources": sources, "confidence": found.confidence, "generations": dict(found.generations)})
        for piece in telling.pieces(HEARTBEAT_SECONDS):
            yield None if piece is None else Event("text", {"text": piece})
        query = self._query(body, subject, found, telling.told(), time.perf_counter() - started)
        yield Event("answer", self._kept(query))

    def _subject(self, body: Ask) -> _Subject:
        if not body.question.strip():
            raise InvalidInput("must not be blank", field="question")
        if (body.agent_id is None) == (body.knowledge_base_ids is None):
            raise InvalidInput("ask knowledge bases or an agent: give one of the two", field="knowledge_base_ids")
        if body.agent_id is not None:
            if body.model is not None:
                raise InvalidInput("an agent answers with its own model", field="model")
            return self._agent(AgentRepository(self._resources.storage).get(self._tenant_id, body.agent_id))
        ids = tuple(dict.fromkeys(body.knowledge_base_ids or ()))
        bases = KnowledgeBaseRepository(self._resources.storage)
        bases.must_exist(self._tenant_id, ids, "knowledge_base_ids")
        known = bases.get_many(self._tenant_id, ids)
        return _Subject(tuple(known[key] for key in ids if key in known))

    def _agent(self, agent: Agent) -> _Subject:
        """The agent's published version. Knowledge bases that were deleted since it was bound to them are left out; so are others' ones,
        whatever its row says, because they are looked for in the caller's organization.

        Raises: Conflict when it does not answer, or has nothing to answer from.
        """
        if agent.status != "active" or agent.published_version is None:
            raise Conflict("this agent does not answer: publish it, and set it active", field="agent_id")
        version = AgentVersionRepository(self._resources.storage).get_number(self._tenant_id, agent.id, agent.published_version)
        return self._subject_of(version)

    def _subject_of(self, version: AgentVersion) -> _Subject:
        ids = tuple(dict.fromkeys(version.knowledge_base_ids))[:MAX_KNOWLEDGE_BASES]
        known = KnowledgeBaseRepository(self._resources.storage).get_many(self._tenant_id, ids) if ids else {}
        bases = tuple(known[key] for key in ids if key in known)
        if not bases:
            raise Conflict("this agent has no knowledge base to answer from", field="agent_id")
        return _Subject(bases, version)

    def _open(self, bases: Sequence[KnowledgeBase]) -> Opened:
        return [self._snapshots.open(self._tenant_id, base.id, seen=base) for base in bases]

    def _find(self, opened: Opened, question: str, options: AskOptions, agent: AgentVersion | None) -> Found:
        return self._answering.find(opened, self._asked(question, options, agent))

    def _asked(self, question: str, options: AskOptions, agent: AgentVersion | None) -> Asked:
        wanted = Wanted(
            top_k=options.top_k,
            mode=options.mode,
            filter=parse_filter(options.filter) if options.filter is not None else None,
            min_score=options.min_score,
            refinement=Refinement(options.diversity, options.per_document, options.rerank),
            neighbours=options.neighbours,
        )
        return Asked(
            question=question,
            wanted=wanted,
            by=options.answer_by,
            persona=agent.system_prompt if agent else "",
            model=self._model(options, agent),
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            least_confidence=THRESHOLD if options.min_confidence is None else options.min_confidence,
        )

    def _model(self, options: AskOptions, agent: AgentVersion | None) -> str | None:
        """The model to ask: None for the default one, or where sentences of the sources are the answer.

        Raises: Conflict for one that the server may not ask.
        """
        llm = self._resources.llm
        if llm is None:
            if options.answer_by == "model" or options.model is not None:
                raise Conflict("this server has no language model", field="answer_by" if options.model is None else "model")
            return None
        chosen = agent.model if agent else options.model
        if chosen is not None and chosen not in llm.models:
            raise Conflict(f"the model {chosen} is not one of those this server may ask", field="agent_id" if agent else "model")
        return chosen

    # --- history ---

    def _query(self, body: Ask, subject: _Subject, found: Found, told: Told, seconds: float) -> RagQuery:
        now = RagQueryRepository(self._resources.storage).now()
        ending = told.ending
        options = body.model_dump(mode="json", exclude={"question", "knowledge_base_ids", "agent_id", "stream"})
        return RagQuery(
            id=new_id(),
            tenant_id=self._tenant_id,
            question=body.question,
            answer=told.text,
            kind=told.kind,
            confidence=found.confidence,
            model=ending.model if ending else None,
            finish_reason=ending.finish_reason if ending else None,
            prompt_tokens=ending.prompt_tokens if ending else None,
            completion_tokens=ending.completion_tokens if ending else None,
            seconds=seconds,
            agent_id=subject.agent.agent_id if subject.agent else None,
            knowledge_base_ids=tuple(base.id for base in subject.bases),
            generations=found.generations,
            options=options | ({"agent_version": subject.agent.number} if subject.agent else {}),
            sources=[source.model_dump() for source in _sources(found.passages)],
            citations=[asdict(citation) for citation in told.citations],
            created_by=self._asker,
            created_at=now,
            expires_at=now + timedelta(seconds=self._resources.settings.rag_history_seconds),
        )

    def _kept(self, query: RagQuery) -> AnswerOut:
        answer = shown(query, kept=bool(self._resources.settings.rag_history_seconds))
        history = RagQueryRepository(self._resources.storage, self._operation)
        if answer.id is None:
            history.count_only(query)
        else:
            history.keep(query, answer)
        return answer

    # --- replay ---

    def replay(self, query: RagQuery, *, now: bool) -> ReplayOut:
        """Ask the same again, of the generations that answered then, or of those of now; nothing is kept of it.

        Raises: NotFound when a knowledge base or the agent's version is gone; NotRetained when a generation is no longer kept;
        otherwise as `ask`.
        """
        agent = self._replayed_agent(query)
        opened = [
            self._snapshots.open_at(self._tenant_id, key, None if now else query.generations[key]) for key in query.knowledge_base_ids
        ]
        options = AskOptions.model_validate({name: value for name, value in query.options.items() if name in AskOptions.model_fields})
        started = time.perf_counter()
        found = self._find(opened, query.question, options, agent)
        told = self._answering.tell(found)
        body = Ask(question=query.question, knowledge_base_ids=query.knowledge_base_ids, **options.model_dump())
        again = self._query(body, _Subject(tuple(base for base, _ in opened), agent), found, told, time.perf_counter() - started)
        return _compared(shown(query), shown(again, kept=False), now=now)

    def _replayed_agent(self, query: RagQuery) -> AgentVersion | None:
        if query.agent_id is None:
            return None
        number = int(query.options["agent_version"])
        return AgentVersionRepository(self._resources.storage).get_number(self._tenant_id, query.agent_id, number)


def _compared(before: AnswerOut, after: AnswerOut, *, now: bool) -> ReplayOut:
    old, new = ([source.chunk_id for source in answer.sources] for answer in (before, after))
    return ReplayOut(
        against="now" if now else "then",
        before=before,
        after=after,
        answer_changed=before.answer != after.answer,
        kind_changed=before.kind != after.kind,
        sources_gained=tuple(key for key in new if key not in old),
        sources_lost=tuple(key for key in old if key not in new),
        order_changed=[key for key in old if key in new] != [key for key in new if key in old],
    )


def _sources(passages: Sequence[Passage]) -> tuple[SourceOut, ...]:
    return tuple(
        SourceOut(
            number=number,
            knowledge_base_id=passage.knowledge_base_id,
            chunk_id=passage.chunk.id,
            document_id=passage.chunk.document_id,
            title=_title(passage.chunk.metadata),
            score=passage.score,
            exact=passage.exact,
        )
        for number, passage in enumerate(passages, 1)
    )


def _title(metadata: Mapping[str, Any]) -> str | None:
    title = metadata.get("title")
    return title if isinstance(title, str) else None


def shown(query: RagQuery, *, kept: bool = True) -> AnswerOut:
    """A question as it is answered; without an id when it is not in the history."""
    return AnswerOut(
        id=query.id if kept else None,
        question=query.question,
        answer=query.answer,
        kind=query.kind,
        confidence=query.confidence,
        citations=tuple(CitationOut(**citation) for citation in query.citations),
        sources=tuple(SourceOut(**source) for source in query.sources),
        generations=dict(query.generations),
        agent_id=query.agent_id,
        model=query.model,
        finish_reason=query.finish_reason,
        usage=Usage(prompt_tokens=query.prompt_tokens, completion_tokens=query.completion_tokens),
        seconds=query.seconds,
    )
