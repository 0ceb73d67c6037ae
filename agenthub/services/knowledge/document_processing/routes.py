"""HTTP routes of documents and chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flask import Blueprint

from agenthub.core.errors import InvalidInput, NotFound
from agenthub.rag.parsing.document import canonical_text
from agenthub.repositories.base import Page, equal_if
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.services.knowledge.document_processing.chunks import add_chunks
from agenthub.services.knowledge.document_processing.logic import Deleted, Library, Refusal
from agenthub.services.knowledge.document_processing.preparing import Prepared, Upload, read_and_cut
from agenthub.services.knowledge.document_processing.schemas import (
    ChunkIds,
    ChunkOut,
    ChunksAdded,
    ChunksIn,
    DeletedOut,
    DocumentChunksQuery,
    DocumentForm,
    DocumentIds,
    DocumentListQuery,
    DocumentOut,
    DocumentText,
    DraftOut,
    PreviewOut,
    UploadItem,
    UploadOut,
    UploadQuery,
)
from agenthub.web.access import operation, principal, repository, request_id, resources
from agenthub.web.answers import Answer, Attachment
from agenthub.web.declare import accepts, accepts_files, free_path, refuses, requires, returns, serves, takes
from agenthub.web.errors import error_detail
from agenthub.web.reading import UploadedFile
from agenthub.web.schema import ListOf

bp = Blueprint("documents", __name__)
BLUEPRINTS: Final = (("/api/knowledge-bases/<knowledge_base_id>", bp),)
