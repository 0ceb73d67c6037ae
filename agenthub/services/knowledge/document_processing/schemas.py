"""Request and answer shapes of documents and chunks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, Json, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from agenthub.rag.chunking import DEFAULT_CHARACTERS, DEFAULT_OVERLAP, MAX_CHARACTERS, MIN_CHARACTERS, ChunkingSettings, Strategy
from agenthub.repositories.knowledge.documents import MAX_SOURCE_BYTES
from agenthub.web.schema import NO_NUL, ErrorDetail, Id, JsonMetadata, Name, PageQuery, Schema

GENERATION: Final = "X-KB-Generation"
"""The header that says which generation a write made."""
MAX_TEXT_CHARACTERS: Final = 5_000_000
MAX_CHUNK_CHARACTERS: Final = 32_000
MAX_ITEMS: Final = 1_000
MAX_FILES: Final = 100

ChunkId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A chunk's id: one of ours, or the client's own for chunks it posts itself."""


def _bounded_source(value: str) -> str:
    if len(value.encode()) > MAX_SOURCE_BYTES:
        raise ValueError(f"should be at most {MAX_SOURCE_BYTES} bytes in UTF-8")
    return value


Source = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_SOURCE_BYTES, pattern=r"^[^\x00-\x1f\x7f]+$"), AfterValidator(_bounded_source)
]
"""Where the client has a document: a path, an address, a key. One document of a knowledge base has it."""


class ChunkingChoice(Schema):
    """How to cut documents; sizes in characters."""

    strategy: Strategy = "structure"
    max_characters: Annotated[int, Field(ge=MIN_CHARACTERS, le=MAX_CHARACTERS)] = DEFAULT_CHARACTERS
    overlap_characters: Annotated[int, Field(ge=0, le=MAX_CHARACTERS)] = DEFAULT_OVERLAP

    @property
    def settings(self) -> ChunkingSettings:
        """The settings. Raises: InvalidInput when they don't go together."""
        return ChunkingSettings(self.strategy, self.max_characters, self.overlap_characters)


class DocumentText(Schema):
    """A document given as text."""

    title: Name
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
    metadata: JsonMetadata = Field(default_factory=dict, description="answered with every hit, and filterable")
    source: Source | None = Field(default=None, description="a document of the same source is replaced")
    chunking: ChunkingChoice | None = Field(default=None, description="left out: as the knowledge base says")


class DocumentForm(Schema):
    """What may come beside the files of an upload; `metadata` is a JSON object and goes to every file."""

    title: Name | None = Field(default=None, description="for a single file; left out: the document's own title or its file name")
    metadata: Json[JsonMetadata] = Field(default_factory=dict)
    sources: Json[Annotated[tuple[Source, ...], Field(max_length=MAX_FILES)]] | None = Field(
        default=None, description="a JSON list with the source of each file, in their order; a document of the same source is replaced"
    )
    chunking: Json[ChunkingChoice] | None = Field(default=None, description="a JSON object; left out: as the knowledge base says")


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
    source: str | None
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


Url = Annotated[str, StringConstraints(min_length=8, max_length=2_000, pattern=r"^[^\x00-\x20\x7f]+$")]


class UrlsIn(Schema):
    """Pages to fetch: up to 100 addresses, or the sitemap that lists them."""

    urls: Annotated[tuple[Url, ...], Field(max_length=MAX_FILES)] = ()
    sitemap: Url | None = Field(default=None, description="XML, an index of sitemaps, or lines; only addresses of its own host count")
    most: Annotated[int, Field(ge=1, le=10_000, description="a sitemap that lists more addresses is refused")] = 1_000
    metadata: JsonMetadata = Field(default_factory=dict, description="answered with every hit, and filterable")
    chunking: ChunkingChoice | None = Field(default=None, description="left out: as the knowledge base says")


class SyncItem(Schema):
    """A file that the client has: its source, and the SHA-256 of its bytes in hex."""

    source: Source
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]


class GoneWithin(Schema):
    """Of which sources the list is complete: those that begin with `prefix` and come after `after`, up to and with `through`.

    Sources are compared by code point. A list of more than 1,000 files is sent in parts, each complete from the last source of the
    part before up to its own last one.
    """

    prefix: Annotated[str, StringConstraints(max_length=MAX_SOURCE_BYTES, pattern=NO_NUL)] = ""
    after: Annotated[str, StringConstraints(max_length=MAX_SOURCE_BYTES, pattern=NO_NUL)] | None = None
    through: Annotated[str, StringConstraints(max_length=MAX_SOURCE_BYTES, pattern=NO_NUL)] | None = None


class SyncIn(Schema):
    """What the client has, up to 1,000 files."""

    items: Annotated[tuple[SyncItem, ...], Field(max_length=MAX_ITEMS)]
    gone_within: GoneWithin | None = Field(default=None, description="also list documents of this range that are not in the list")


class SyncState(Schema):
    """Whether a file has to be uploaded. `unchanged`: `document_id` has this content, perhaps from another source."""

    source: str
    state: Literal["needed", "unchanged"]
    document_id: str | None


class GoneOut(Schema):
    """A document whose source is not in the list."""

    source: str
    document_id: str
    sha256: str


class SyncOut(Schema):
    """What is needed, in the order of the list, and what is gone: up to 1,000, and `more_gone` when there are more."""

    items: tuple[SyncState, ...]
    gone: tuple[GoneOut, ...]
    more_gone: bool


class ErasedPlace(Schema):
    """A place that was looked through: how many things were `checked`, how many `removed`, how many `found` afterwards."""

    place: str
    checked: int
    removed: int
    found: int


class ErasureReport(Schema):
    """What was checked, and what remains where and why: empty until the erasure is done. `waits_for`: what keeps it from that."""

    places: tuple[ErasedPlace, ...] = ()
    remains: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()


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
