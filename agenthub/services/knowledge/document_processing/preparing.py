"""From bytes to chunks with vectors: everything that happens before anything is written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import ModelMismatch
from agenthub.core.ids import new_id
from agenthub.core.types import DocumentId
from agenthub.rag.chunking import CHUNKER_VERSION, ChunkDraft, ChunkingSettings, chunk_document
from agenthub.rag.parsing.document import ParsedDocument, canonical_text
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.sandbox import parse_safely
from agenthub.rag.segment import Chunk
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.models import pinned_embedder
from agenthub.resources import Resources

_PARSERS: Final = threading.BoundedSemaphore(2)
"""How many documents one process parses at once: each may take 512 MiB in its child process."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One document as it came in."""

    filename: str | None
    media_type: str | None
    data: bytes
    title: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that was read, cut and embedded, with no trace outside this process."""

    upload: Upload
    document: Document
    chunks: tuple[Chunk, ...]
    vectors: NDArray[float32]


def settings_of(base: KnowledgeBase) -> ChunkingSettings:
    """How this knowledge base cuts documents.

    Raises: ModelMismatch when it was made for a chunker this server doesn't have.
    """
    chunking = dict(base.chunking)
    if chunking.pop("version") != CHUNKER_VERSION:
        raise ModelMismatch("this knowledge base was made for another chunker version")
    return ChunkingSettings(**chunking)


def read_and_cut(base: KnowledgeBase, upload: Upload, limits: ParsingLimits) -> tuple[ParsedDocument, list[ChunkDraft]]:
    """The document and its chunks.

    Raises: UnsupportedDocument with the reason when it can't be read; PayloadTooLarge when it is over a bound.
    """
    with _PARSERS:
        parsed = parse_safely(upload.data, upload.filename or "", upload.media_type, limits)
    return parsed, chunk_document(parsed, settings_of(base))


def prepare(resources: Resources, base: KnowledgeBase, upload: Upload, creator: str, now: datetime) -> Prepared:
    """Read, cut and embed one document.

    Raises: as `read_and_cut` and `pinned_embedder`; ProviderFailure when the embedding endpoint fails.
    """
    embedder = pinned_embedder(resources.embedders, base)
    parsed, drafts = read_and_cut(base, upload, resources.settings.parsing)
    document = _document(base, upload, parsed, len(drafts), creator, now)
    chunks = tuple(_chunk(document, position, draft) for position, draft in enumerate(drafts))
    vectors = embedder.embed([chunk.searched_text for chunk in chunks])
    return Prepared(upload, document, chunks, vectors)


def stack(vectors: Sequence[NDArray[float32]]) -> NDArray[float32]:
    """The vectors of several documents as one array, shape (chunks, dimension)."""
    stacked: NDArray[float32] = np.concatenate(vectors, axis=0)
    return stacked


def _document(base: KnowledgeBase, upload: Upload, parsed: ParsedDocument, chunk_count: int, creator: str, now: datetime) -> Document:
    return Document(
        id=DocumentId(new_id()),
        tenant_id=base.tenant_id,
        knowledge_base_id=base.id,
        title=upload.title or parsed.title or upload.filename or "untitled",
        filename=upload.filename,
        media_type=parsed.media_type,
        size_bytes=len(upload.data),
        sha256=hashlib.sha256(upload.data).hexdigest(),
        original_name="",
        language=parsed.language,
        page_count=parsed.page_count,
        character_count=len(canonical_text(parsed)),
        chunk_count=chunk_count,
        metadata=dict(upload.metadata),
        generation=0,
        revision=1,
        created_by=creator,
        created_at=now,
        updated_at=now,
    )


def _chunk(document: Document, position: int, draft: ChunkDraft) -> Chunk:
    """The client's own metadata wins over what the file says: its filters find what it sent. Only offsets are always ours."""
    known: dict[str, Any] = {**draft.metadata, "title": document.title}
    if document.filename:
        known["filename"] = document.filename
    place = {"position": position, "start": draft.start, "end": draft.end}
    return Chunk(new_id(), document.id, draft.text, {**known, **document.metadata, **place}, draft.context)
