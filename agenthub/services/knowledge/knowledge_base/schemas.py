"""Request and answer shapes of knowledge bases."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from agenthub.rag.chunking import DEFAULT_CHARACTERS, DEFAULT_OVERLAP, MAX_CHARACTERS, MIN_CHARACTERS, Strategy
from agenthub.repositories.knowledge.knowledge_bases import RETAINED_GENERATIONS, RETAINED_SECONDS
from agenthub.web.schema import Id, Name, PageQuery, Schema, Text

RetainedGenerations = Annotated[
    int, Field(ge=0, le=10_000, description="how many generations back one can go; 0 keeps the current one only")
]
RetainedSeconds = Annotated[int, Field(ge=0, le=10 * 366 * 86_400, description="for how long after it was replaced a generation is kept")]


class ChunkingIn(Schema):
    """How documents are cut into chunks; sizes in characters. Left out: the defaults for the embedding model."""

    strategy: Strategy = "structure"
    max_characters: int = Field(default=DEFAULT_CHARACTERS, ge=MIN_CHARACTERS, le=MAX_CHARACTERS)
    overlap_characters: int = Field(default=DEFAULT_OVERLAP, ge=0, le=MAX_CHARACTERS // 2, description="less than half the size")


class KnowledgeBaseCreate(Schema):
    """A new knowledge base.

    Leave `embedding_model` out for the server's default model. Send `null` together with `dimension` when your own vectors
    come with every chunk and every search.
    """

    name: Name
    description: Text = ""
    embedding_model: str | None = Field(default=None, min_length=1, max_length=200)
    dimension: int | None = Field(default=None, ge=1, le=4096)
    language: str = Field(default="english", min_length=1, max_length=40, description="stemming and stop words; `simple` for none")
    chunking: ChunkingIn = ChunkingIn()
    retained_generations: RetainedGenerations = RETAINED_GENERATIONS
    retained_seconds: RetainedSeconds = RETAINED_SECONDS


class KnowledgeBaseUpdate(Schema):
    """A new name, description or retention; what is left out stays (the defaults here are never applied)."""

    name: Name = "-"
    description: Text = ""
    retained_generations: RetainedGenerations = RETAINED_GENERATIONS
    retained_seconds: RetainedSeconds = RETAINED_SECONDS
    expected_version: int | None = Field(default=None, ge=1)


class KnowledgeBaseOut(Schema):
    """A knowledge base and its size. `generation` grows with every change of its contents."""

    id: Id
    name: str
    description: str
    embedding_model: str | None
    signature: str
    dimension: int
    language: str
    chunking: dict[str, Any]
    generation: int
    document_count: int
    chunk_count: int
    size_bytes: int
    retained_generations: int
    retained_seconds: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class KnowledgeBaseListQuery(PageQuery):
    """Which knowledge bases to list."""

    name: str | None = Field(default=None, max_length=200, description="only the one of this name")
