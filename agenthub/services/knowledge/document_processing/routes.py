"""HTTP routes of documents and chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint

from agenthub.core.errors import Conflict, InvalidInput, NotFound
from agenthub.jobs.preparing import Upload, read_and_cut
from agenthub.rag.parsing.document import canonical_text
from agenthub.repositories.base import Page, all_of, equal_if
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.faqs import FaqText
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.jobs import Job
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.services.knowledge.document_processing import erase_routes, job_routes, site_routes, sync_routes
from agenthub.services.knowledge.document_processing.chunks import add_chunks
from agenthub.services.knowledge.document_processing.job_schemas import JobAccepted, JobOut
from agenthub.services.knowledge.document_processing.logic import Deleted, Library
from agenthub.services.knowledge.document_processing.schemas import (
    GENERATION,
    MAX_FILES,
    ChunkIds,
    ChunkingChoice,
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
from agenthub.services.knowledge.document_processing.uploading import Form, Outcome, Uploads, outcomes
from agenthub.web.access import jobs, operation, principal, repository, resources
from agenthub.web.answers import Answer, Attachment
from agenthub.web.declare import accepts, accepts_files, free_path, refuses, requires, resumes, returns, serves, takes
from agenthub.web.errors import error_detail
from agenthub.web.reading import UploadedFile
from agenthub.web.schema import ListOf

bp = Blueprint("documents", __name__)
BLUEPRINTS: Final = (
    ("/api/knowledge-bases/<knowledge_base_id>", bp),
    ("/api/knowledge-bases/<knowledge_base_id>", erase_routes.bp),
    ("/api/knowledge-bases/<knowledge_base_id>", sync_routes.bp),
    ("/api/knowledge-bases/<knowledge_base_id>", site_routes.bp),
    ("/api/jobs", job_routes.bp),
)

_HEADERS: Final = {GENERATION: "the generation this write made"}
_PLACE: Final = {"Location": "the job's address"}


def _library(knowledge_base_id: str) -> Library:
    return Library(resources(), operation(), principal().tenant_id, knowledge_base_id)


def _uploads(files: Sequence[UploadedFile], form: DocumentForm) -> list[Upload]:
    if form.title is not None and len(files) != 1:
        raise InvalidInput("a title goes with a single file", field="title")
    if form.sources is not None and len(form.sources) != len(files):
        raise InvalidInput("name as many sources as there are files", field="sources")
    sources = form.sources or [None] * len(files)
    return [
        Upload(_shown_name(file.filename), file.content_type, file.data, form.title, form.metadata, source, _chunking(form.chunking))
        for file, source in zip(files, sources, strict=True)
    ]


def _chunking(given: ChunkingChoice | None) -> Mapping[str, Any] | None:
    return None if given is None else asdict(given.settings)


def _shown_name(filename: str) -> str:
    """The last part of a client's path, printable and bounded: it is shown, never used as a path."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() else "_" for c in last).strip()[:255] or "unnamed"


def _text_upload(body: DocumentText) -> Upload:
    chunking = _chunking(body.chunking)
    return Upload(None, "text/plain; charset=utf-8", body.text.encode(), body.title, body.metadata, body.source, chunking)


def _resume(first: Any, knowledge_base_id: str, query: UploadQuery, **_: Any) -> object:
    """The answer to a repeat of an upload: by its job, which may have ended since."""
    del knowledge_base_id
    jobs().notice()
    return _answer(first["job"]["id"], query.wait)


@bp.post("/documents")
@requires("documents:write")
@accepts_files(DocumentForm, json=DocumentText, max_files=MAX_FILES)
@takes(UploadQuery)
@returns(DocumentOut, status=201, description="one text or file: the document, searchable", headers=_HEADERS)
@returns(
    DocumentOut,
    status=200,
    description="as 201; it took the place of an older content of its source, or was there already",
    headers=_HEADERS,
)
@returns(UploadOut, status=207, description="several files: what became of each; all accepted ones are searchable", headers=_HEADERS)
@returns(JobAccepted, status=202, description="kept durably, and not done within `wait` seconds: the job that does it", headers=_PLACE)
@refuses("unsupported_document", "payload_too_large", "volume_full", "model_mismatch", "rate_limited")
@resumes(_resume)
def add_documents(knowledge_base_id: str, body: DocumentForm | DocumentText, files: Sequence[UploadedFile], query: UploadQuery) -> object:
    """Upload documents: one JSON text, up to 100 files, or one archive of up to 1,000 files (zip, tar, tar.gz, tar.bz2, tar.xz).

    What came in is kept durably and a job makes documents of it, whatever happens to this connection or process. When it ends within
    `wait` seconds, a single document is answered with 201 or refused with the reason, several files with 207 and a status for
    each; else the answer is 202 with the job. `wait=0` answers at once.

    The same content is not taken twice: with the same title, metadata and chunking, the document that is there is the answer. With
    a source, a new content replaces the document of that source. The files of an archive have their paths in it as sources, after the
    archive's own source or name.
    """
    if isinstance(body, DocumentText):
        return _submit(knowledge_base_id, [_text_upload(body)], "one", query.wait)
    if not files:
        raise InvalidInput("send at least one file, or a JSON body with title and text", field="files")
    uploads = _uploads(files, body)
    return _submit(knowledge_base_id, uploads, "one" if len(uploads) == 1 else "many", query.wait)


def _submit(knowledge_base_id: str, uploads: Sequence[Upload], form: Form, wait: float, document_id: str | None = None) -> object:
    caller = principal()
    desk = Uploads(resources(), operation(), caller.tenant_id, knowledge_base_id)
    job = desk.submit(uploads, form, caller.user_id, _accepted, document_id)
    jobs().notice()
    return _answer(job.id, wait)


def _accepted(job: Job) -> Answer:
    return Answer(JobAccepted(job=JobOut.of(job)), 202, {"Location": f"/api/jobs/{job.id}"})


def _answer(job_id: str, wait: float) -> object:
    """What the upload of that job is answered now.

    Raises: why it could not be, where it was of a single document.
    """
    job = jobs().wait(principal().tenant_id, job_id, wait)
    if not job.finished:
        return _accepted(job)
    found = outcomes(resources(), job)
    if job.arguments["form"] == "many":
        base = repository(KnowledgeBaseRepository).get(job.tenant_id, str(job.knowledge_base_id))
        return _report(found, job.generation or base.generation)
    if not found:
        raise NotFound("this document was erased")
    if found[0].error is not None:
        raise found[0].error
    if found[0].document is None:
        raise NotFound("this document was deleted")
    return Answer(found[0].document, found[0].status, {GENERATION: str(found[0].item.generation)})


def _report(found: Sequence[Outcome], generation: int) -> Answer:
    items = []
    for one in found:
        name = one.item.name if "refused" in one.item.spec or one.item.filename != one.item.name else one.item.filename or ""
        if one.error is None:
            document = DocumentOut.model_validate(one.document, extra="ignore") if one.document else None
            items.append(UploadItem(filename=name, status=one.status, document=document))
        else:
            status, detail = error_detail(one.error)
            items.append(UploadItem(filename=name, status=status, error=detail))
    refused = sum(one.error is not None for one in found)
    report = UploadOut(items=tuple(items), accepted=len(found) - refused, refused=refused, generation=generation)
    return Answer(report, 207, {GENERATION: str(generation)})


@bp.post("/documents/preview")
@requires("documents:read")
@accepts_files(DocumentForm, json=DocumentText, max_files=1)
@returns(PreviewOut)
@refuses("unsupported_document", "payload_too_large")
def preview_document(knowledge_base_id: str, body: DocumentForm | DocumentText, files: Sequence[UploadedFile]) -> PreviewOut:
    """Read and cut one document with this knowledge base's settings, or those given; nothing is kept."""
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    if not isinstance(body, DocumentText) and not files:
        raise InvalidInput("send a file, or a JSON body with title and text", field="files")
    upload = _text_upload(body) if isinstance(body, DocumentText) else _uploads(files, body)[0]
    parsed, drafts = read_and_cut(base, upload, resources().settings.parsing)
    chunks = tuple(DraftOut(text=d.text, context=d.context, metadata=dict(d.metadata), start=d.start, end=d.end) for d in drafts)
    return PreviewOut(
        title=parsed.title,
        media_type=parsed.media_type,
        language=parsed.language,
        page_count=parsed.page_count,
        character_count=len(canonical_text(parsed)),
        chunk_count=len(drafts),
        chunks=chunks[:200],
    )


@bp.get("/documents")
@requires("documents:read")
@takes(DocumentListQuery)
@returns(ListOf[DocumentOut])
@refuses("not_retained")
def list_documents(knowledge_base_id: str, query: DocumentListQuery) -> Page[Document]:
    """The knowledge base's documents, newest first; with `generation`, as they were then."""
    tenant_id = principal().tenant_id
    base = repository(KnowledgeBaseRepository).get(tenant_id, knowledge_base_id)
    where = all_of(equal_if("sha256", query.sha256), equal_if("kind", query.kind))
    if query.generation is not None:
        history = History(resources().storage)
        return history.documents(history.at(base, query.generation), where=where, limit=query.limit, cursor=query.cursor)
    return repository(DocumentRepository).page_in(tenant_id, knowledge_base_id, where=where, limit=query.limit, cursor=query.cursor)


@bp.get("/documents/<document_id>")
@requires("documents:read")
@returns(DocumentOut)
def get_document(knowledge_base_id: str, document_id: str) -> Document:
    """One document."""
    return _document(knowledge_base_id, document_id)


def _document(knowledge_base_id: str, document_id: str) -> Document:
    """The document, of a knowledge base that is not deleted."""
    tenant_id = principal().tenant_id
    repository(KnowledgeBaseRepository).get(tenant_id, knowledge_base_id)
    return repository(DocumentRepository).get_in(tenant_id, knowledge_base_id, document_id)


@bp.put("/documents/<document_id>")
@requires("documents:write")
@accepts_files(DocumentForm, json=DocumentText, max_files=1)
@takes(UploadQuery)
@returns(DocumentOut, headers=_HEADERS)
@returns(JobAccepted, status=202, description="kept durably, and not done within `wait` seconds: the job that does it", headers=_PLACE)
@refuses("unsupported_document", "payload_too_large", "volume_full", "model_mismatch", "rate_limited")
@resumes(_resume)
def replace_document(
    knowledge_base_id: str, document_id: str, body: DocumentForm | DocumentText, files: Sequence[UploadedFile], query: UploadQuery
) -> object:
    """Put new content in a document's place: searches see the old or the new one, never both and never none."""
    if _document(knowledge_base_id, document_id).kind == "faq":
        raise Conflict("this is a FAQ: it is changed at /api/faqs")
    if not isinstance(body, DocumentText) and not files:
        raise InvalidInput("send a file, or a JSON body with title and text", field="files")
    upload = _text_upload(body) if isinstance(body, DocumentText) else _uploads(files, body)[0]
    return _submit(knowledge_base_id, [upload], "replace", query.wait, document_id)


@bp.delete("/documents/<document_id>")
@requires("documents:write")
@returns(DeletedOut, headers=_HEADERS)
def delete_document(knowledge_base_id: str, document_id: str) -> object:
    """Delete a document: no search finds it any more, on any replica."""
    return _library(knowledge_base_id).delete([document_id], _gone)


@bp.post("/documents/delete")
@requires("documents:write")
@accepts(DocumentIds)
@returns(DeletedOut, headers=_HEADERS)
def delete_documents(knowledge_base_id: str, body: DocumentIds) -> object:
    """Delete many documents in one commit; ids that are not there are reported."""
    return _library(knowledge_base_id).delete(body.ids, _gone)


def _gone(deleted: Deleted) -> Answer:
    return Answer(deleted, 200, {GENERATION: str(deleted.generation)})


@bp.get("/documents/<document_id>/chunks")
@requires("documents:read")
@takes(DocumentChunksQuery)
@returns(ListOf[ChunkOut])
def list_document_chunks(knowledge_base_id: str, document_id: str, query: DocumentChunksQuery) -> Page[object]:
    """A document's chunks in order."""
    _document(knowledge_base_id, document_id)
    _, searcher = Snapshots(resources().storage, resources().knowledge).open(principal().tenant_id, knowledge_base_id)
    chunks = searcher.document_chunks(document_id)
    start = int(query.cursor or 0)
    end = start + query.limit
    return Page(tuple(chunks[start:end]), str(end) if end < len(chunks) else None)


@bp.get("/documents/<document_id>/original")
@requires("documents:read")
@serves("application/octet-stream", "the bytes that were uploaded")
def get_original(knowledge_base_id: str, document_id: str) -> Attachment:
    """Download what was uploaded, byte for byte; of a FAQ, the JSON that its hash is made of."""
    document = _document(knowledge_base_id, document_id)
    if document.kind == "faq":
        return Attachment(FaqText.of(document).encoded(), "faq.json")
    data = resources().knowledge.read_original(knowledge_base_id, document.original)
    return Attachment(data, document.filename or f"{document.title}.txt")


@bp.post("/chunks")
@requires("documents:write")
@accepts(ChunksIn, max_bytes=None)
@returns(ChunksAdded, headers=_HEADERS)
@refuses("volume_full", "model_mismatch", "rate_limited")
def add_own_chunks(knowledge_base_id: str, body: ChunksIn) -> object:
    """Add up to 1,000 chunks of your own making in one commit; a chunk whose id exists is replaced."""
    base = repository(KnowledgeBaseRepository).get(principal().tenant_id, knowledge_base_id)
    return add_chunks(resources(), operation(), base, body.items, lambda added: Answer(added, 200, {GENERATION: str(added.generation)}))


@bp.get("/chunks/<chunk_id>")
@requires("documents:read")
@free_path("chunk_id")
@returns(ChunkOut)
def get_chunk(knowledge_base_id: str, chunk_id: str) -> object:
    """One chunk."""
    _, searcher = Snapshots(resources().storage, resources().knowledge).open(principal().tenant_id, knowledge_base_id)
    found = searcher.find_chunks([chunk_id])
    if chunk_id not in found:
        raise NotFound("no chunk with this id")
    return found[chunk_id]


@bp.post("/chunks/delete")
@requires("documents:write")
@accepts(ChunkIds)
@returns(DeletedOut, headers=_HEADERS)
def delete_chunks(knowledge_base_id: str, body: ChunkIds) -> object:
    """Delete chunks in one commit; ids that are not there are reported."""
    return _library(knowledge_base_id).delete_chunks(body.ids, _gone)
