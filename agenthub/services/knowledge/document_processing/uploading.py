"""Uploads: kept and queued as a job, and answered when the job has ended, or with the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from agenthub.core.errors import AgentHubError, Conflict, PayloadTooLarge, ProviderFailure, RateLimited
from agenthub.core.types import DocumentId, TenantId
from agenthub.jobs.preparing import Upload, settings_of
from agenthub.jobs.reasons import error_of
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

        Raises: Conflict when vectors come from the client; RateLimited while merging has to catch up or too many jobs are open;
        PayloadTooLarge; ModelMismatch.
        """
        self._check(uploads)
        self._resources.upkeep.admit(self.base)
        drafts = [_draft(upload, document_id) for upload in uploads]
        submissions = Submissions(self._resources.storage, self._resources.knowledge, self._operation)
        return submissions.submit(self.base, KIND, drafts, created_by, answer, {"form": form}).job

    def _check(self, uploads: Sequence[Upload]) -> None:
        if self.base.embedding_model is None:
            raise Conflict("this knowledge base has no embedding model: its vectors come from the client")
        settings_of(self.base)
        limit = self._resources.parsing.file_bytes
        if any(len(upload.data) > limit for upload in uploads):
            raise PayloadTooLarge(f"the file is larger than {limit:,} bytes")


def outcomes(resources: Resources, job: Job) -> list[Outcome]:
    """What became of each of the first thousand items of an ended job, in order."""
    items = JobItemRepository(resources.storage)
    found, cursor = list((page := items.page_of(job, limit=200)).items), page.next_cursor
    while cursor and len(found) < 1000:
        page = items.page_of(job, limit=200, cursor=cursor)
        found, cursor = [*found, *page.items], page.next_cursor
    return [_outcome(resources, job, item) for item in found]


def _outcome(resources: Resources, job: Job, item: JobItem) -> Outcome:
    if item.status == "done" and item.document_id and item.generation:
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
    return ItemDraft(
        name=upload.filename or upload.title or "untitled",
        data=upload.data,
        action="replace" if document_id else "add",
        document_id=DocumentId(document_id) if document_id else None,
        title=upload.title,
        filename=upload.filename,
        media_type=upload.media_type,
        metadata=metadata,
    )
