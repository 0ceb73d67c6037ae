"""From bytes to chunks: what happens before anything is embedded or written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import ModelMismatch
from agenthub.core.ids import new_id
from agenthub.core.types import DocumentId
from agenthub.rag.chunking import CHUNKER_VERSION, ChunkDraft, ChunkingSettings, chunk_document
from agenthub.rag.language import detect_language
from agenthub.rag.parsing.document import ParsedDocument, canonical_text
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.sandbox import parse_safely, read_here
from agenthub.rag.segment import Chunk
from agenthub.repositories.knowledge.documents import Document, content_key
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase

_PARSERS: Final = threading.BoundedSemaphore(2)
"""How many documents one process parses at once: each may take 512 MiB in its child process."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One document as it came in. `source` is where the client has it; `chunking` how to cut it, None as the knowledge base does.

    `origin` is what an address said with it.
    """

    filename: str | None
    media_type: str | None
    data: bytes
    title: str | None
    metadata: Mapping[str, Any]
    source: str | None = None
    chunking: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Maker:
    """What a document has from its job: its id, its uploaded file, its maker and the time."""

    document_id: DocumentId
    original_name: str
    created_by: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that was read and cut, with no trace outside this process."""

    document: Document
    chunks: tuple[Chunk, ...]


def settings_of(base: KnowledgeBase) -> ChunkingSettings:
    """How this knowledge base cuts documents.

    Raises: ModelMismatch when it was made for a chunker this server doesn't have.
    """
    chunking = dict(base.chunking)
    if chunking.pop("version") != CHUNKER_VERSION:
        raise ModelMismatch("this knowledge base was made for another chunker version")
    return ChunkingSettings(**chunking)


def parsed_here(upload: Upload) -> bool:
    """Whether this document is read without a child process: its parser can do no harm.

    Raises: UnsupportedDocument when it is of no kind that can be read.
    """
    return read_here(upload.data, upload.filename or "", upload.media_type)


def read_and_cut(
    base: KnowledgeBase, upload: Upload, limits: ParsingLimits, abandoned: Callable[[], bool] = lambda: False
) -> tuple[ParsedDocument, list[ChunkDraft]]:
    """The document and its chunks.

    Raises: UnsupportedDocument with the reason when it can't be read; PayloadTooLarge when it is over a bound;
    ReadingAbandoned soon after `abandoned` says that nobody wants it any more.
    """
    settings = settings_of(base) if upload.chunking is None else ChunkingSettings(**upload.chunking)
    with _PARSERS:
        parsed = parse_safely(upload.data, upload.filename or "", upload.media_type, limits, abandoned)
    if parsed.language is None:
        parsed = replace(parsed, language=detect_language(block.text for block in parsed.blocks))
    return parsed, chunk_document(parsed, settings)


def draft_document(base: KnowledgeBase, upload: Upload, parsed: ParsedDocument, drafts: Sequence[ChunkDraft], maker: Maker) -> Draft:
    """The document and chunks that were read, as they will be when their vectors are there."""
    document = _document(base, upload, parsed, len(drafts), maker)
    return Draft(document, tuple(_chunk(document, position, draft) for position, draft in enumerate(drafts)))


def _document(base: KnowledgeBase, upload: Upload, parsed: ParsedDocument, chunk_count: int, maker: Maker) -> Document:
    sha256 = hashlib.sha256(upload.data).hexdigest()
    return Document(
        id=maker.document_id,
        tenant_id=base.tenant_id,
        knowledge_base_id=base.id,
        title=upload.title or parsed.title or upload.filename or "untitled",
        filename=upload.filename,
        media_type=parsed.media_type,
        size_bytes=len(upload.data),
        sha256=sha256,
        original_name=maker.original_name,
        language=parsed.language,
        page_count=parsed.page_count,
        character_count=len(canonical_text(parsed)),
        chunk_count=chunk_count,
        metadata=dict(upload.metadata),
        generation=0,
        revision=1,
        created_by=maker.created_by,
        created_at=maker.now,
        updated_at=maker.now,
        source=upload.source,
        content_key=content_key(sha256, upload.filename, upload.title, upload.metadata, upload.chunking),
        origin=upload.origin,
    )


def _chunk(document: Document, position: int, draft: ChunkDraft) -> Chunk:
    """The client's own metadata wins over what the file says: its filters find what it sent. Only offsets are always ours."""
    known: dict[str, Any] = {**draft.metadata, "title": document.title}
    if document.filename:
        known["filename"] = document.filename
    if document.source:
        known["source"] = document.source
    if document.language:
        known["language"] = document.language
    place = {"position": position, "start": draft.start, "end": draft.end}
    return Chunk(new_id(), document.id, draft.text, {**known, **document.metadata, **place}, draft.context)
