"""The documents of jobs: read one after the other, embedded meanwhile, and committed in groups."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from agenthub.core.errors import AgentHubError, ParserDied, PayloadTooLarge, UnsupportedDocument
from agenthub.core.failpoints import failpoint
from agenthub.core.types import TenantId
from agenthub.jobs.contract import Bench, Deadline
from agenthub.jobs.embedding import EmbedAhead
from agenthub.jobs.preparing import Draft, Maker, Upload, draft_document, parsed_here, read_and_cut
from agenthub.jobs.reasons import reason_of
from agenthub.rag.parsing.sandbox import ReadingAbandoned
from agenthub.repositories.knowledge.job_commits import MOST_STRIKES, JobCommits, Made
from agenthub.repositories.knowledge.job_queue import Leased
from agenthub.repositories.knowledge.jobs import Job, JobItem, JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.matching import Match, by_id, chunking_of, source_of
from agenthub.repositories.knowledge.models import pinned_embedder

GROUP_CHUNKS: Final = 256
GROUP_DOCUMENTS: Final = 128
GROUP_SECONDS: Final = 2.0
"""A group is committed when it has so many chunks or documents, or its first document has waited so long, or nothing follows."""
AHEAD_CHUNKS: Final = 512
"""Chunks that may wait for their vectors; then reading waits."""
CAREFUL_TRIES: Final = 3
"""From so many tries without progress on, each document is brought to its end before the next is read: one of them ends runners."""
TURN_SECONDS: Final = 3.0
"""How long a slice goes on while others wait."""
_TOGETHER: Final = 32
"""Small documents that are marked in one commit."""
_SMALL_BYTES: Final = 65_536
_CHILD_WEIGHT: Final = 4
"""For how many of those one counts that has to be read in a child process: if it ends this runner, all of them get a strike."""
_BATCH_SECONDS: Final = 1.0
"""After so long those of a batch that are left are marked anew: others may wait, or the deadline has passed."""
_WAIT_SECONDS: Final = 0.2
_log = logging.getLogger("agenthub.jobs")


class Pipeline:
    """One slice over the waiting items of jobs of one knowledge base."""

    def __init__(self, bench: Bench, leases: Sequence[Leased], deadline: Deadline) -> None:
        """Items whose original is not on the volume yet are left alone.

        Raises: NotFound when the knowledge base was deleted; ModelMismatch; RateLimited while merging has to catch up.
        """
        resources = bench.resources
        self._resources = resources
        self._deadline = deadline
        self._base = _base(bench, leases[0].job)
        self._embedder = pinned_embedder(resources.embedders, self._base)
        resources.upkeep.admit(self._base)
        self._items = JobItemRepository(resources.storage)
        self._commits = JobCommits(resources.storage, resources.knowledge, leases, self._base)
        self._careful = any(leased.job.tries >= CAREFUL_TRIES for leased in leases)
        self._matches: dict[str, Match] = {}
        self._begun: dict[str, JobItem] = {}
        self._refunds: dict[str, JobItem] = {}
        self._group: list[Made] = []
        self._group_since = 0.0
        self._queue = bench.queue
        self._leases = leases
        self._next_look = time.monotonic() + TURN_SECONDS

    def run(self) -> frozenset[str]:
        """Read, embed and commit until the deadline passed or nothing is left; the ids of the jobs without waiting items.

        Raises: as `Handler.run_slice`.
        """
        try:
            with EmbedAhead(self._embedder) as ahead:
                self._run(ahead)
        finally:
            with suppress(AgentHubError):  # what ended in order was no strike; where this fails too, it counts as one
                self._commits.mark((), self._take_refunds())
        return frozenset(job_id for job_id, job in self._commits.jobs.items() if self._complete(job))

    def _run(self, ahead: EmbedAhead) -> None:
        for items in self._batches():
            for item, draft in self._read(items):
                ahead.put(item, draft)
            self._collect(ahead, most=0 if self._careful else AHEAD_CHUNKS)
            if self._should_yield():
                break
        if ahead.backlog > AHEAD_CHUNKS // 2:
            self._commits.stage("embedding")
        self._collect(ahead, most=0)
        self._commit()

    def _should_yield(self) -> bool:
        """Whether this slice has had a turn's worth of time, and a job without a runner waits."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + TURN_SECONDS / 3
        return self._queue.others_wait(self._leases)

    def _complete(self, job: Job) -> bool:
        """Whether nothing waits: items may also have gone with their documents, by an erasure."""
        if job.state.get("unfinished"):
            return False
        return job.settled_count >= job.total_count or not self._items.waiting_of(job, limit=1).items

    # --- reading ---

    def _batches(self) -> Iterator[list[tuple[JobItem, Upload]]]:
        """Waiting items with their bytes: small ones that never ended a runner together, all others one by one; until the deadline."""
        together: list[tuple[JobItem, Upload]] = []
        room = _TOGETHER
        for waiting in self._waiting():
            opened = self._opened(waiting)
            if opened is None:
                continue
            item, upload, here = opened
            alone = self._careful or item.attempts > 0 or not (here or len(upload.data) <= _SMALL_BYTES)
            if not alone:
                together.append((item, upload))
                room -= 1 if here else _CHILD_WEIGHT
                if room > 0:
                    continue
            if together:
                yield together
                together, room = [], _TOGETHER
            if alone:
                yield [(item, upload)]
        if together:
            yield together

    def _waiting(self) -> Iterator[JobItem]:
        """Items to be done, those that were never begun first: what ends runners comes last."""
        for job in list(self._commits.jobs.values()):
            cursor: str | None = None
            while True:
                page = self._items.waiting_of(job, cursor=cursor)
                ready = [item for item in page.items if item.id not in self._begun and item.original_name]
                self._matches = self._commits.matching.of_items(ready)
                for item in ready:
                    if self._deadline.passed:
                        return
                    yield item
                if (cursor := page.next_cursor) is None:
                    break

    def _opened(self, item: JobItem) -> tuple[JobItem, Upload, bool] | None:
        """The item, its bytes, and whether they can be read in this process; None when it came to its end here."""
        if item.attempts >= MOST_STRIKES:
            message = item.error_message or f"reading it was begun {MOST_STRIKES} times and never ended"
            self._commits.settle(item, "quarantined", item.error_code or "unsupported_document", message, retryable=True)
            return None
        directed = self._directed(item)
        if directed is None:
            return None
        try:
            upload = self._original(directed)
            return directed, upload, parsed_here(upload)
        except (UnsupportedDocument, PayloadTooLarge) as error:
            self._commits.settle(item, "failed", *reason_of(error))
            return None

    def _directed(self, item: JobItem) -> JobItem | None:
        """The item as it is to be done, by what is there already; None when nothing is to be done, or it is looked at again later."""
        if by_id(item):
            return item
        match = self._matches.get(item.id) or self._commits.matching.of_items([item])[item.id]
        if match.same is not None:
            if match.stale is None:
                self._commits.skip(item, match.same)
            elif self._commits.absorb(item, match):
                self._matches = {}  # what the others met may be gone
            return None
        if match.stale is not None:
            return item if item.document_id == match.stale.id else self._commits.redirect(item, match.stale)
        return self._commits.redirect(item, None) if item.action == "replace" else item

    def _read(self, batch: Sequence[tuple[JobItem, Upload]]) -> Iterator[tuple[JobItem, Draft]]:
        marked = self._commits.mark([item for item, _ in batch], self._take_refunds())
        now, end = self._items.now(), time.monotonic() + _BATCH_SECONDS
        for number, (item, (_, upload)) in enumerate(zip(marked, batch, strict=True)):
            if number and (time.monotonic() > end or self._deadline.passed):
                self._refunds |= {left.id: left for left in marked[number:]}  # they come again in the next slice
                return
            failpoint("job.read")
            try:
                draft = self._drafted(item, upload, now=now)
            except ReadingAbandoned:
                self._refunds[item.id] = item
            except ParserDied as error:
                self._strike(item, error)
            except (UnsupportedDocument, PayloadTooLarge) as error:
                self._commits.settle(item, "failed", *reason_of(error))
            else:
                self._begun[item.id] = self._refunds[item.id] = item
                yield item, draft

    def _drafted(self, item: JobItem, upload: Upload, *, now: datetime) -> Draft:
        parsed, drafts = read_and_cut(self._base, upload, self._resources.parsing, self._stopping)
        if item.document_id is None:
            raise UnsupportedDocument("this item makes no document")
        maker = Maker(item.document_id, item.original_name, self._commits.jobs[item.job_id].created_by, now)
        return draft_document(self._base, upload, parsed, drafts, maker)

    def _stopping(self) -> bool:
        return self._deadline.stopping

    def _strike(self, item: JobItem, error: ParserDied) -> None:
        _log.warning("reading of item %s ended its process, attempt %d: %s", item.id, item.attempts, error.message)
        if item.attempts >= MOST_STRIKES:
            self._commits.settle(item, "quarantined", *reason_of(error), retryable=True)
        else:
            self._commits.note(item, *reason_of(error))

    def _take_refunds(self) -> list[JobItem]:
        """Attempts to take back: those of items that were read, and so did no harm, but wait for their commit."""
        refunds = list(self._refunds.values())
        self._refunds = {}
        return refunds

    def _original(self, item: JobItem) -> Upload:
        data = self._resources.knowledge.read_original(self._base.id, item.original)
        made_of = source_of(item), chunking_of(item), item.spec.get("origin")
        return Upload(item.filename, item.media_type, data, item.title, item.metadata, *made_of)

    # --- committing ---

    def _collect(self, ahead: EmbedAhead, *, most: int) -> None:
        """Take what is embedded, and wait for it while more than `most` chunks are not; commit groups that are full."""
        while True:
            backlog = ahead.backlog
            made = ahead.take(_WAIT_SECONDS if backlog > most and not self._deadline.stopping else 0.0)
            if made is not None:
                self._add(made)
            elif backlog <= most or self._deadline.stopping:
                break
            self._commit_if_due()
        if self._careful:
            self._commit()

    def _add(self, made: Made) -> None:
        """Put a document in the group; one that can't be in the same commit with what is there comes after it."""
        first = self._group[0] if self._group else None
        same = {one.document.id for one in self._group}
        if first and (first.item.action != made.item.action or made.document.id in same):
            self._commit()
        if not self._group:
            self._group_since = time.monotonic()
        self._group.append(made)

    def _commit_if_due(self) -> None:
        chunks = sum(len(one.chunks) for one in self._group)
        late = time.monotonic() - self._group_since >= GROUP_SECONDS
        if self._group and (chunks >= GROUP_CHUNKS or len(self._group) >= GROUP_DOCUMENTS or late):
            self._commit()

    def _commit(self) -> None:
        group, self._group = self._group, []
        if not group:
            return
        started = time.monotonic()
        self._commits.publish(group)
        self._resources.observer.time("job_commit", time.monotonic() - started)
        self._resources.upkeep.notice(self._base.id)
        for one in group:
            self._refunds.pop(one.item.id, None)


def _base(bench: Bench, job: Job) -> KnowledgeBase:
    return KnowledgeBaseRepository(bench.resources.storage).get(TenantId(job.tenant_id), str(job.knowledge_base_id))
