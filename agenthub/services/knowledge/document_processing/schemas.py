"""Request and answer shapes of documents and chunks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, Json, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from agenthub.web.schema import ErrorDetail, Id, JsonMetadata, Name, PageQuery, Schema

GENERATION: Final = "X-KB-Generation"
"""The header that says which generation a write made."""
MAX_TEXT_CHARACTERS: Final = 5_000_000
MAX_CHUNK_CHARACTERS: Final = 32_000
MAX_ITEMS: Final = 1_000
MAX_FILES: Final = 100

ChunkId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A chunk's id: one of ours, or the client's own for chunks it posts itself."""


class DocumentText(Schema):
    """A document given as text."""

    title: Name
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
    metadata: JsonMetadata = Field(default_factory=dict, description="answered with every hit, and filterable")


class DocumentForm(Schema):
    """What may come beside the files of an upload; `metadata` is a JSON object and goes to every file."""

    title: Name | None = Field(default=None, description="for a single file; left out: the document's own title or its file name")
    metadata: Json[JsonMetadata] = Field(default_factory=dict)


class UploadQuery(Schema):
    """How long the caller is ready to wait until the documents are searchable."""

    wait: float = Field(default=30, ge=0, le=3600, description="seconds; after that the answer is 202 with the job")


class DocumentOut(Schema):
    """A document. It is searchable from `generation` on; `revision` counts its replacements. A FAQ's title is its question."""

    id: Id
    knowledge_base_id: Id
    kind: Literal["document", "faq"]
    title: str
    filename: str | None
    media_type: str
    size_bytes: int
    sha256: str
    language: str | None
    page_count: int | None
    character_count: int
    chunk_count: int
    metadata: dict[str, Any]
    generation: int
    revision: int
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int


class UploadItem(Schema):
    """What became of one file: a document, or the reason why it was refused."""

    filename: str
    status: int
    document: DocumentOut | None = None
    error: ErrorDetail | None = None


class UploadOut(Schema):
    """What became of each file of an upload, in order. All accepted ones are searchable from `generation` on."""

    items: tuple[UploadItem, ...]
    accepted: int
    refused: int
    generation: int


class DocumentListQuery(PageQuery):
    """Which documents to list."""

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = Field(default=None, description="with this content")
    kind: Literal["document", "faq"] | None = Field(default=None, description="only uploads, or only FAQs")
    generation: Annotated[
        Annotated[int, Field(ge=1, le=2**53)] | SkipJsonSchema[None],
        Field(description="as they were in this generation; 410 when it is no longer kept"),
    ] = None


class ChunkOut(Schema):
    """A chunk: the text that is searched, its place in the document and its metadata."""

    id: ChunkId
    document_id: str | None
    text: str
    context: str
    metadata: dict[str, Any]


class DraftOut(Schema):
    """A chunk as it would be made; nothing was kept."""

    text: str
    context: str
    metadata: dict[str, Any]
    start: int
    end: int


class PreviewOut(Schema):
    """How a file would be read and cut with this knowledge base's settings."""

    title: str | None
    media_type: str
    language: str | None
    page_count: int | None
    character_count: int
    chunk_count: int
    chunks: tuple[DraftOut, ...]


class ChunkIn(Schema):
    """A chunk of the client's own making. An `id` that exists is replaced."""

    id: ChunkId | None = None
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHUNK_CHARACTERS)]
    metadata: JsonMetadata = Field(default_factory=dict)
    vector: str | tuple[float, ...] | None = Field(
        default=None, description="numbers, or base64 of little-endian float32; needed where the knowledge base has no model"
    )


class ChunksIn(Schema):
    """Up to 1,000 chunks, added in one commit."""

    items: Annotated[tuple[ChunkIn, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class ChunksAdded(Schema):
    """The generation from which the chunks are searchable; `ids` in the order sent, `replaced` of them existed before."""

    generation: int
    added: int
    replaced: int
    ids: tuple[str, ...]


class ChunkIds(Schema):
    """Chunks to delete."""

    ids: Annotated[tuple[ChunkId, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class DocumentIds(Schema):
    """Documents to delete."""

    ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_ITEMS)]


class DeletedOut(Schema):
    """What is gone from `generation` on, and which ids were not there."""

    generation: int
    deleted: tuple[str, ...]
    missing: tuple[str, ...]


class DocumentChunksQuery(Schema):
    """Which of a document's chunks to list."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, StringConstraints(pattern="^[0-9]{1,9}$")] | None = None


class ErasedPlace(Schema):
    """A place that was looked through: how many things were `checked`, how many `removed`, how many `found` afterwards."""

    place: str
    checked: int
    removed: int
    found: int


class ErasureReport(Schema):
    """What was checked, and what remains where and why. Empty until the erasure is done."""

    places: tuple[ErasedPlace, ...] = ()
    remains: tuple[str, ...] = ()


class ErasureOut(Schema):
    """The receipt of an erasure.

    `hidden`: nobody finds the document any more, and its removal is under way, to end before `due_at`. `done`: nothing of it is
    left in the places listed. From `generation` on; older generations can't be read any more.
    """

    id: Id
    knowledge_base_id: Id
    document_id: str
    state: Literal["hidden", "done"]
    generation: int
    requested_by: str | None
    requested_at: datetime
    due_at: datetime
    completed_at: datetime | None
    report: ErasureReport
    version: int
