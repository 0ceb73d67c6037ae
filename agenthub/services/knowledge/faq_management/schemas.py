"""Request and answer shapes of FAQs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from agenthub.repositories.knowledge.faqs import MAX_ANSWER, MAX_CATEGORY, MAX_PRIORITY, MAX_QUESTION, FaqText
from agenthub.web.schema import NO_NUL, ONE_LINE, Id, JsonMetadata, PageQuery, Schema

MAX_ITEMS: Final = 1_000
"""How many FAQs one import takes: two writes each at most, all in one commit."""

_NOT_BLANK: Final = r"[^\s\x00]"
Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION, pattern=ONE_LINE)]
Answer = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ANSWER, pattern=NO_NUL),
    StringConstraints(pattern=_NOT_BLANK),
]
Category = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_CATEGORY, pattern=ONE_LINE)]
Priority = Annotated[int, Field(ge=0, le=MAX_PRIORITY)]
OnConflict = Literal["replace", "skip", "refuse"]


class FaqItem(Schema):
    """A question with its answer. A search for the very same question, whatever its case and punctuation, finds it first."""

    question: Question
    answer: Answer
    category: Category | None = None
    priority: Priority = 0
    metadata: JsonMetadata = Field(default_factory=dict, description="answered with every hit, and filterable")

    def text(self) -> FaqText:
        """What it says."""
        return FaqText(self.question, self.answer, self.category, self.priority, self.metadata)


class FaqCreate(FaqItem):
    """A new FAQ of a knowledge base."""

    knowledge_base_id: Id


class FaqUpdate(Schema):
    """What to change; what is left out stays."""

    question: Question | None = None
    answer: Answer | None = None
    category: Category | None = None
    priority: Priority | None = None
    metadata: JsonMetadata | None = None
    expected_version: int | None = Field(default=None, ge=1, le=2**53, description="409 when the FAQ is at another version")


class FaqItems(Schema):
    """FAQs to import."""

    items: Annotated[tuple[FaqItem, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class FaqImport(FaqItems):
    """FAQs to import in one commit. What becomes of those whose question is there already says `on_conflict`."""

    knowledge_base_id: Id
    on_conflict: OnConflict = "replace"


class FaqImportForm(Schema):
    """What comes beside the file of an import: CSV with the columns of an export, or JSON."""

    knowledge_base_id: Id
    on_conflict: OnConflict = "replace"


class FaqIds(Schema):
    """FAQs of one knowledge base."""

    knowledge_base_id: Id
    ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class FaqListQuery(PageQuery):
    """Which FAQs to list."""

    knowledge_base_id: Id
    category: Annotated[Category | SkipJsonSchema[None], Field(description="only of this category")] = None
    question: Annotated[Question | SkipJsonSchema[None], Field(description="only the one that answers this very question")] = None
    generation: Annotated[
        Annotated[int, Field(ge=1, le=2**53)] | SkipJsonSchema[None],
        Field(description="as they were in this generation; 410 when it is no longer kept"),
    ] = None


class FaqExportQuery(Schema):
    """What to export."""

    knowledge_base_id: Id
    category: Annotated[Category | SkipJsonSchema[None], Field(description="only of this category")] = None
    generation: Annotated[
        Annotated[int, Field(ge=1, le=2**53)] | SkipJsonSchema[None],
        Field(description="as they were in this generation; 410 when it is no longer kept"),
    ] = None


class FaqOut(Schema):
    """A FAQ. It is searchable from `generation` on; `revision` counts its changes."""

    id: Id
    knowledge_base_id: Id
    question: str
    answer: str
    category: str | None
    priority: int
    metadata: dict[str, Any]
    generation: int
    revision: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class FaqsImported(Schema):
    """What an import did, all of it in `generation`. Those that say the same already, or were to be skipped, are `unchanged`."""

    generation: int
    created: int
    replaced: int
    unchanged: int


class FaqsDeleted(Schema):
    """Which FAQs are gone from `generation` on, and which were not there."""

    generation: int
    deleted: tuple[str, ...]
    missing: tuple[str, ...]
