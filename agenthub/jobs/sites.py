"""Jobs of the kind `site`: pages that are fetched, by their addresses or by the sitemap that lists them.

Each page is kept on the volume as soon as it is there, so what was fetched is not asked for again, whoever goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from agenthub.core.errors import AddressRefused, FetchFailed, PayloadTooLarge, UnsupportedDocument
from agenthub.core.types import TenantId
from agenthub.fetching.fetch import Conditions, Fetched, parse_url
from agenthub.fetching.visiting import Visitor
from agenthub.jobs.contract import Bench, Deadline
from agenthub.jobs.pipeline import Pipeline
from agenthub.jobs.reasons import reason_of
from agenthub.repositories.knowledge.documents import MAX_SOURCE_BYTES, Document, DocumentRepository, content_key
from agenthub.repositories.knowledge.job_commits import MOST_STRIKES, JobCommits
from agenthub.repositories.knowledge.job_queue import Leased
from agenthub.repositories.knowledge.jobs import JobItem, JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.matching import chunking_of, source_of
from agenthub.repositories.knowledge.submitting import ItemDraft, Submissions
from agenthub.repositories.operations import Operation

_PAGES: Final = 16
"""Pages that are fetched before they are read and embedded together."""
_LISTED: Final = 500
_NAME_CHARACTERS: Final = 255


def page_draft(address: str, metadata: dict[str, Any], chunking: dict[str, Any] | None) -> ItemDraft:
    """The item of one page; its source is its address.

    Raises: AddressRefused when it is none, or too long.
    """
    source = str(parse_url(address))
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise AddressRefused(f"this address is longer than {MAX_SOURCE_BYTES:,} bytes")
    spec: dict[str, Any] = {"source": source, "url": source}
    return ItemDraft(name=source, metadata=metadata, spec=spec if chunking is None else {**spec, "chunking": chunking})


class SiteHandler:
    """Implements `Handler`."""

    together: ClassVar[int] = 1

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        resources = bench.resources
        self._storage, self._knowledge = resources.storage, resources.knowledge
        self._items = JobItemRepository(resources.storage)
        self._visitor = Visitor(resources.fetcher, resources.robots)

    def run_slice(self, leases: Sequence[Leased], deadline: Deadline) -> frozenset[str]:
        """See `Handler.run_slice`."""
        leased = leases[0]
        job = leased.job
        base = KnowledgeBaseRepository(self._storage).get(TenantId(job.tenant_id), str(job.knowledge_base_id))
        if job.state.get("unfinished"):
            self._list(leased, base)
        while True:
            fetched = self._fetch_some(self._bench.queue.refreshed(leased), base, deadline)
            complete = Pipeline(self._bench, [self._bench.queue.refreshed(leased)], deadline).run()
            if not fetched or deadline.passed:
                return complete

    # --- listing ---

    def _list(self, leased: Leased, base: KnowledgeBase) -> None:
        """Make an item of every page of the sitemap; those that an earlier slice made are left out."""
        job = leased.job
        asked = job.arguments
        addresses = self._visitor.sitemap(str(asked["sitemap"]), int(asked["most"]))
        submissions = Submissions(self._storage, self._knowledge, Operation(job.actor))
        listed, total = int(job.state.get("listed", 0)), job.total_count
        while True:
            part = addresses[listed : listed + _LISTED]
            drafts = [page_draft(address, asked["metadata"], asked["chunking"]) for address in part if _short(address)]
            listed, total = listed + len(part), total + len(drafts)
            unfinished = listed < len(addresses)
            submissions.extend(leased, base, drafts, {"unfinished": unfinished, "listed": listed}, total)
            if not unfinished:
                return

    # --- fetching ---

    def _fetch_some(self, leased: Leased, base: KnowledgeBase, deadline: Deadline) -> int:
        """Fetch the next pages; how many items were moved on by it."""
        commits = JobCommits(self._storage, self._knowledge, [leased], base)
        waiting = [item for item in self._items.waiting_of(leased.job, limit=_PAGES * 4).items if not item.original_name]
        known = DocumentRepository(self._storage).of_sources(base.tenant_id, base.id, [source_of(item) or "" for item in waiting])
        moved = 0
        for item in waiting[:_PAGES]:
            if deadline.passed:
                break
            self._fetch(commits, item, known.get(source_of(item) or ""))
            moved += 1
        return moved

    def _fetch(self, commits: JobCommits, item: JobItem, known: Document | None) -> None:
        have = _conditions(item, known)
        try:
            page = self._visitor.read(str(item.spec["url"]), have)
        except FetchFailed as error:
            self._failed(commits, item, error)
        except (AddressRefused, UnsupportedDocument, PayloadTooLarge) as error:
            commits.settle(item, "failed", *reason_of(error))
        else:
            if page.status == 304 and known is not None:
                commits.skip(item, known)
            else:
                commits.keep(item, page.data, _filename(page), page.media_type, {**item.spec, "origin": _origin(page)})

    def _failed(self, commits: JobCommits, item: JobItem, error: FetchFailed) -> None:
        """Try again later; after three times it is the item's end, until somebody retries the job."""
        marked = commits.mark([item])[0]
        if marked.attempts >= MOST_STRIKES:
            commits.settle(marked, "failed", *reason_of(error), retryable=True)
        else:
            commits.note(marked, *reason_of(error))


def _short(address: str) -> bool:
    return len(address.encode()) <= MAX_SOURCE_BYTES


def _conditions(item: JobItem, known: Document | None) -> Conditions | None:
    """What the knowledge base has of the page, if it would come out the same."""
    if known is None or known.origin is None or known.content_key is None:
        return None
    same = content_key(known.sha256, known.filename, item.title, item.metadata, chunking_of(item))
    return Conditions(known.origin.get("etag"), known.origin.get("last_modified")) if same == known.content_key else None


def _origin(page: Fetched) -> dict[str, Any]:
    return {name: value for name, value in asdict(page).items() if name in ("url", "etag", "last_modified") and value is not None}


def _filename(page: Fetched) -> str | None:
    last = unquote(parse_url(page.url).path.rpartition("/")[2])
    return "".join(c if c.isprintable() else "_" for c in last).strip()[:_NAME_CHARACTERS] or None
