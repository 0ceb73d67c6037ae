"""HTTP routes of what comes in by the thousand: pages by their addresses or a sitemap, records as JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from flask import Blueprint

from agenthub.core.errors import AddressRefused, InvalidInput
from agenthub.fetching.fetch import parse_url
from agenthub.jobs.sites import page_draft
from agenthub.repositories.knowledge.jobs import Job
from agenthub.repositories.knowledge.submitting import ItemDraft
from agenthub.services.knowledge.document_processing.job_schemas import JobAccepted, JobOut
from agenthub.services.knowledge.document_processing.schemas import UrlsIn
from agenthub.services.knowledge.document_processing.uploading import Uploads
from agenthub.web.access import jobs, operation, principal, resources
from agenthub.web.answers import Answer
from agenthub.web.declare import accepts, accepts_stream, refuses, requires, returns

bp = Blueprint("sites", __name__)


@bp.post("/documents/urls")
@requires("documents:write")
@accepts(UrlsIn)
@returns(JobAccepted, status=202, description="the job that fetches them", headers={"Location": "the job's address"})
@refuses("address_refused", "rate_limited", "model_mismatch")
def fetch_documents(knowledge_base_id: str, body: UrlsIn) -> object:
    """Fetch pages and make documents of them. An address is its document's source: fetched again, a changed page replaces it.

    Only https:// addresses of the public Internet are fetched, through redirects too, and only where the site's robots.txt admits
    AgentHub. What has not changed since is not sent again (ETag, Last-Modified).
    """
    if bool(body.urls) == (body.sitemap is not None):
        raise InvalidInput("send either urls or a sitemap", field="urls")
    caller = principal()
    desk = Uploads(resources(), operation(), caller.tenant_id, knowledge_base_id)
    chunking = asdict(body.chunking.settings) if body.chunking else None
    arguments: dict[str, Any] = {"metadata": dict(body.metadata), "chunking": chunking}
    if body.sitemap is not None:
        _checked(body.sitemap, "sitemap")
        arguments |= {"sitemap": body.sitemap, "most": body.most}
    job = desk.fetch(_drafts(body.urls, arguments), caller.user_id, _accepted, arguments)
    jobs().notice()
    return _accepted(job)


@bp.post("/records")
@requires("documents:write")
@accepts_stream("application/jsonl", "one JSON object a line, of id, title, text, metadata and vector; may be gzipped")
@returns(JobAccepted, status=202, description="the job that reads them", headers={"Location": "the job's address"})
@refuses("unsupported_document", "payload_too_large", "rate_limited", "volume_full")
def add_records(knowledge_base_id: str, stream: BinaryIO) -> object:
    """Add chunks of your own making by the hundred thousand, one JSON object a line: `{"id"?, "title"?, "text", "metadata"?, "vector"?}`.

    A record whose id exists is replaced; one without an id has one made of its content, so that it is not added twice. A knowledge
    base without a model needs vectors. The job's items are parts of 1,000 lines: each says how many were read, added, replaced,
    unchanged and bad, and names the first bad ones with the reason.
    """
    caller = principal()
    desk = Uploads(resources(), operation(), caller.tenant_id, knowledge_base_id)
    with stream:
        job = desk.take_records(stream, caller.user_id, _accepted)
    jobs().notice()
    return _accepted(job)


def _drafts(urls: Sequence[str], arguments: dict[str, Any]) -> list[ItemDraft]:
    drafts: list[ItemDraft] = []
    for index, url in enumerate(urls):
        _checked(url, f"urls[{index}]")
        drafts.append(page_draft(url, arguments["metadata"], arguments["chunking"]))
    return drafts


def _checked(url: str, field: str) -> None:
    try:
        page_draft(str(parse_url(url)), {}, None)
    except AddressRefused as refusal:
        raise AddressRefused(refusal.message, field=field) from refusal


def _accepted(job: Job) -> Answer:
    return Answer(JobAccepted(job=JobOut.of(job)), 202, {"Location": f"/api/jobs/{job.id}"})
