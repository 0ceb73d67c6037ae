"""Uploads: kept and queued as a job, and answered when the job has ended, or with the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Final, Literal, overload

from agenthub.core.errors import AgentHubError, Conflict, InvalidInput, PayloadTooLarge, ProviderFailure, RateLimited
from agenthub.core.types import DocumentId, TenantId
from agenthub.jobs.archives import ARCHIVE
from agenthub.jobs.preparing import Upload, settings_of
from agenthub.jobs.reasons import error_of
from agenthub.rag.parsing.unpacking import is_bundle
from agenthub.rag.records import Part, parts_of, unpacked
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.jobs import Job, JobItem, JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.submitting import ItemDraft, Submissions
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources

KIND: Final = "upload"
Form = Literal["one", "many", "replace"]
"""How an upload is answered; kept with its job, so that repeats are answered alike."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: a document, or why there is none."""

    item: JobItem
    document: Document | None
    error: AgentHubError | None

    @property
    def status(self) -> int:
        """201 for a new document; 200 for one that was replaced, or was there already."""
        return 201 if self.item.status == "done" and self.item.action == "add" else 200


class Uploads:
    """Uploads to one knowledge base, for one request."""

    def __init__(self, resources: Resources, operation: Operation, tenant_id: TenantId, knowledge_base_id: str) -> None:
        self._resources = resources
        self._operation = operation
        self.base: KnowledgeBase = KnowledgeBaseRepository(resources.storage).get(tenant_id, knowledge_base_id)

    def submit(
        self,
        uploads: Sequence[Upload],
        form: Form,
        created_by: str,
        answer: Callable[[Job], Any],
        document_id: str | None = None,
    ) -> Job:
        """Keep the uploads and queue the job that makes documents of them; takes milliseconds.

        An archive of files comes alone: its files become the job's items. With `document_id` it is refused like any file that
        can't be read.

        Raises: InvalidInput for an archive beside others; Conflict when vectors come from the client; RateLimited while merging has to
        catch up or too many jobs are open;
        PayloadTooLarge; ModelMismatch.
        """
        self._check(uploads)
        self._resources.upkeep.admit(self.base)
        submissions = Submissions(self._resources.storage, self._resources.knowledge, self._operation)
        archive = next((upload for upload in uploads if is_bundle(upload.filename or "", upload.data[:512])), None)
        if archive is None or document_id is not None:
            drafts = [_draft(upload, document_id) for upload in uploads]
            return submissions.submit(self.base, KIND, drafts, created_by, answer, {"form": form}).job
        if len(uploads) > 1 or archive.title is not None:
            what = "title" if archive.title is not None else "files"
            raise InvalidInput("an archive is uploaded alone and without a title: each file in it is a document", field=what)
        draft = _draft(archive, None)
        marked = replace(draft, spec={"source": draft.name, **draft.spec, ARCHIVE: True})
        return submissions.submit(self.base, "archive", [marked], created_by, answer, {"form": "many"}, unfinished=True).job

    def fetch(self, drafts: Sequence[ItemDraft], created_by: str, answer: Callable[[Job], Any], arguments: Mapping[str, Any]) -> Job:
        """Queue the job that fetches pages: those given, or those that the sitemap of `arguments` lists.

        Raises: as `submit`.
        """
        self._check(())
        self._resources.upkeep.admit(self.base)
        submissions = Submissions(self._resources.storage, self._resources.knowledge, self._operation)
        return submissions.submit(self.base, "site", drafts, created_by, answer, arguments, unfinished="sitemap" in arguments).job

    def take_records(self, stream: BinaryIO, created_by: str, answer: Callable[[Job], Any]) -> Job:
        """Keep a file of JSON lines in parts and queue the job that reads them; one part is in memory at a time.

        Raises: InvalidInput naming a line that is too long; UnsupportedDocument when it is damaged; PayloadTooLarge; RateLimited.
        """
        self._resources.upkeep.admit(self.base)
        submissions = Submissions(self._resources.storage, self._resources.knowledge, self._operation)
        with TemporaryFile() as target:
            file = unpacked(stream, target, self._resources.settings.web.max_bundle_bytes)
            parts = parts_of(file)
            if not parts:
                raise InvalidInput("there is no line in it")
            return submissions.submit(self.base, "records", _Parts(file, parts), created_by, answer).job

    def _check(self, uploads: Sequence[Upload]) -> None:
        if self.base.embedding_model is None:
            raise Conflict("this knowledge base has no embedding model: its vectors come from the client")
        settings_of(self.base)
        limit = self._resources.parsing.file_bytes
        if any(len(upload.data) > limit for upload in uploads):
            raise PayloadTooLarge(f"the file is larger than {limit:,} bytes")


class _Parts(Sequence[ItemDraft]):
    """The parts of a file as items, each read when it is asked for."""

    def __init__(self, file: BinaryIO, parts: Sequence[Part]) -> None:
        self._file = file
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> ItemDraft: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ItemDraft]: ...
    def __getitem__(self, index: int | slice) -> ItemDraft | Sequence[ItemDraft]:
        if isinstance(index, slice):
            return _Parts(self._file, self._parts[index])
        part = self._parts[index]
        self._file.seek(part.start)
        name = f"lines {part.first_line} to {part.first_line + part.line_count - 1}"
        return ItemDraft(name, self._file.read(part.length_bytes), spec={"first_line": part.first_line})


def outcomes(resources: Resources, job: Job) -> list[Outcome]:
    """What became of each of the first thousand items of an ended job, in order; not of an archive that was unpacked."""
    items = JobItemRepository(resources.storage)
    found, cursor = list((page := items.page_of(job, limit=200)).items), page.next_cursor
    while cursor and len(found) < 1001:
        page = items.page_of(job, limit=200, cursor=cursor)
        found, cursor = [*found, *page.items], page.next_cursor
    return [_outcome(resources, job, item) for item in found if not (item.spec.get(ARCHIVE) and item.status == "done")]


def _outcome(resources: Resources, job: Job, item: JobItem) -> Outcome:
    if item.status in ("done", "skipped") and item.document_id and item.generation and not item.error_code:
        documents = DocumentRepository(resources.storage)
        return Outcome(item, documents.as_of(job.tenant_id, item.document_id, item.generation), None)
    return Outcome(item, None, why_not(job, item))


def why_not(job: Job, item: JobItem) -> AgentHubError:
    """Why an item of an ended job made no document."""
    if item.status == "waiting" and job.status == "cancelled":
        return Conflict("the job was cancelled before it came to this document")
    own = error_of(item.error_code, item.error_message) if item.status != "waiting" else None
    error = own or error_of(job.error_code, job.error_message) or ProviderFailure("this document was not processed; retry the job")
    if isinstance(error, RateLimited):
        error.retry_after_seconds = 10.0
    return error


def _draft(upload: Upload, document_id: str | None) -> ItemDraft:
    metadata: Mapping[str, Any] = dict(upload.metadata)
    spec = {"source": upload.source, "chunking": upload.chunking}
    return ItemDraft(
        name=upload.filename or upload.title or "untitled",
        data=upload.data,
        action="replace" if document_id else "add",
        document_id=DocumentId(document_id) if document_id else None,
        title=upload.title,
        filename=upload.filename,
        media_type=upload.media_type,
        metadata=metadata,
        spec={name: value for name, value in spec.items() if value is not None},
    )
