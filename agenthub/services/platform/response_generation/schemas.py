"""Request and answer shapes of responses."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from agenthub.web.schema import NO_NUL, Id, Schema

MAX_MESSAGES: Final = 100
MAX_MESSAGE: Final = 32_000
MAX_ALL: Final = 200_000
"""Characters of one message, and of all messages and texts together."""
MAX_BYTES: Final = 1024 * 1024

Content = Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE, pattern=NO_NUL)]


class MessageIn(Schema):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Content


class Respond(Schema):
    """A conversation to go on with; the last message is the user's.

    With `context` or `knowledge_base_ids` the answer rests on these texts alone and cites them. Without a language model one of the two is
    needed: the answer is then made of their best sentences.
    """

    messages: Annotated[tuple[MessageIn, ...], Field(min_length=1, max_length=MAX_MESSAGES)]
    context: Annotated[tuple[Content, ...], Field(min_length=1, max_length=20)] | None = None
    knowledge_base_ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=10)] | None = None
    top_k: int = Field(default=8, ge=1, le=20, description="how many passages of knowledge bases to look at")
    filter: dict[str, Any] | None = Field(default=None, description="as in a search")
    answer_by: Literal["auto", "model", "extractive"] = Field(default="auto", description="`extractive`: never a model")
    model: str | None = Field(default=None, max_length=200, pattern=NO_NUL, description="one that the server may ask")
    max_tokens: int | None = Field(default=None, ge=1, le=32_768)
    temperature: float | None = Field(default=None, ge=0, le=2)
    stream: bool = Field(default=False, description="answer with server-sent events: `text`…, then `answer` or `error`")


class CitationOut(Schema):
    """What a number in the text points to: a passage of a knowledge base, or of a text of `context` (`context-1`, …)."""

    number: int
    knowledge_base_id: str | None
    chunk_id: str
    document_id: str | None
    title: str | None
    page: int | None
    start: int | None
    end: int | None
    quote: str


class Usage(Schema):
    """What the model counted; null where the answer is not a model's, or the endpoint does not tell."""

    prompt_tokens: int | None
    completion_tokens: int | None


class ResponseOut(Schema):
    """A response. `generated` by a model, `extractive` (sentences of the texts), or `none`: the texts don't answer it."""

    kind: Literal["generated", "extractive", "none"]
    text: str
    citations: tuple[CitationOut, ...]
    model: str | None
    finish_reason: str | None
    usage: Usage
    seconds: float


class ModelsOut(Schema):
    """The models that may be asked, the default one first; empty where no endpoint is configured."""

    models: tuple[str, ...]
