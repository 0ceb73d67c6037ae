"""Request and answer shapes of questions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from agenthub.web.schema import NO_NUL, Id, PageQuery, Schema

MAX_KNOWLEDGE_BASES: Final = 10
MAX_QUESTION: Final = 4_000

Question = Annotated[str, Field(min_length=1, max_length=MAX_QUESTION, pattern=NO_NUL)]
Kind = Literal["generated", "extractive", "none"]


class AskOptions(Schema):
    """How to look and how to answer."""

    top_k: int = Field(default=8, ge=1, le=20, description="how many passages to look at")
    mode: Literal["semantic", "keyword", "hybrid"] | None = Field(default=None, description="left out: the richest one there is")
    filter: dict[str, Any] | None = Field(default=None, description="as in a search")
    min_score: float | None = Field(default=None, ge=-1, le=1, description="leave out passages below this score")
    neighbours: int = Field(default=0, ge=0, le=3, description="so many chunks before and after each passage are shown to the model")
    diversity: float | None = Field(default=None, ge=0, le=1, description="0: only relevance counts; 1: only newness")
    per_document: int | None = Field(default=None, ge=1, le=20, description="at most so many passages of one document")
    rerank: bool = Field(default=False, description="let the reranking endpoint order the passages")
    answer_by: Literal["auto", "model", "extractive"] = Field(
        default="auto", description="`extractive`: the sources' own sentences; `model`: 409 where none is configured; `auto`: what there is"
    )
    model: str | None = Field(
        default=None, max_length=200, pattern=NO_NUL, description="one of those the server may ask; not with an agent"
    )
    max_tokens: int | None = Field(default=None, ge=1, le=32_768)
    temperature: float | None = Field(default=None, ge=0, le=2)
    min_confidence: float | None = Field(
        default=None, ge=0, le=1, description="below it the answer is that it isn't there; left out: what was calibrated"
    )


class Ask(AskOptions):
    """A question to knowledge bases, or to an agent and those bound to it."""

    question: Question
    knowledge_base_ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_KNOWLEDGE_BASES)] | None = None
    agent_id: Id | None = None
    stream: bool = Field(default=False, description="answer with server-sent events: `sources`, `text`…, then `answer` or `error`")


class SourceOut(Schema):
    """A passage that was found. Citations use its `number`."""

    number: int
    knowledge_base_id: str
    chunk_id: str
    document_id: str | None
    title: str | None
    score: float
    exact: bool


class CitationOut(Schema):
    """What a number in the answer points to. `start` and `end` are the quote's place in the document's text, where it is known."""

    number: int
    knowledge_base_id: str
    chunk_id: str
    document_id: str | None
    title: str | None
    filename: str | None
    page: int | None
    start: int | None
    end: int | None
    quote: str


class Usage(Schema):
    """What the model counted; null where the answer is not a model's, or the endpoint does not tell."""

    prompt_tokens: int | None
    completion_tokens: int | None


class AnswerOut(Schema):
    """An answer. `generated` by a model, `extractive` (sentences of the sources), or `none`: it isn't in the knowledge base.

    Numbers in brackets are those of `citations`. `confidence` is how likely the answer is in the sources. `id` names it in the history,
    null where none is kept. `generations` are those that were asked.
    """

    id: str | None
    question: str
    answer: str
    kind: Kind
    confidence: float
    citations: tuple[CitationOut, ...]
    sources: tuple[SourceOut, ...]
    generations: dict[str, int]
    agent_id: str | None
    model: str | None
    finish_reason: str | None
    usage: Usage
    seconds: float


class QueryOut(AnswerOut):
    """A question of the history."""

    id: str
    options: dict[str, Any]
    created_by: str
    created_at: datetime
    expires_at: datetime


class QueryListQuery(PageQuery):
    """Which questions to list."""

    agent_id: Annotated[Id | SkipJsonSchema[None], Field(description="only those to this agent")] = None
    kind: Annotated[Kind | SkipJsonSchema[None], Field(description="only those answered so; `none`: those that could not be answered")] = (
        None
    )


class Replay(Schema):
    """What to ask again: the generations that answered then, or those of now."""

    against: Literal["then", "now"] = "then"


class ReplayOut(Schema):
    """The answer of then and the one of the replay, and what differs between them."""

    against: Literal["then", "now"]
    before: AnswerOut
    after: AnswerOut
    answer_changed: bool
    kind_changed: bool
    sources_gained: tuple[str, ...]
    sources_lost: tuple[str, ...]
    order_changed: bool
