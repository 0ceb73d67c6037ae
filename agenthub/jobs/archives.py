"""Jobs of the kind `archive`: every file of an uploaded archive becomes an item, then a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Final

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.core.types import TenantId
from agenthub.jobs.contract import Bench, Deadline
from agenthub.jobs.pipeline import Pipeline
from agenthub.jobs.reasons import CODES, reason_of
from agenthub.rag.parsing.unpacking import Entry, unpack
from agenthub.repositories.knowledge.documents import MAX_SOURCE_BYTES
from agenthub.repositories.knowledge.job_commits import JobCommits
from agenthub.repositories.knowledge.job_queue import Leased
from agenthub.repositories.knowledge.jobs import JobItem, JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.submitting import ItemDraft, Submissions
from agenthub.repositories.operations import Operation

ARCHIVE: Final = "archive"
"""The mark, in its spec, of the item that is the archive itself."""
_BATCH_FILES: Final = 100
_BATCH_BYTES: Final = 16_000_000


class ArchiveHandler:
    """Implements `Handler`."""

    together: ClassVar[int] = 1

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._resources = bench.resources
        self._items = JobItemRepository(bench.resources.storage)

    def run_slice(self, leases: Sequence[Leased], deadline: Deadline) -> frozenset[str]:
        """See `Handler.run_slice`."""
        leased = leases[0]
        base = KnowledgeBaseRepository(self._resources.storage).get(TenantId(leased.job.tenant_id), str(leased.job.knowledge_base_id))
        archive = next((item for item in self._items.waiting_of(leased.job).items if item.spec.get(ARCHIVE)), None)
        if archive is not None:
            self._unpack(leased, base, archive)
            leased = self._bench.queue.refreshed(leased)
        self._refuse_unreadable(leased, base)
        return Pipeline(self._bench, [self._bench.queue.refreshed(leased)], deadline).run()

    def _unpack(self, leased: Leased, base: KnowledgeBase, archive: JobItem) -> None:
        """Make an item of every file; those that an earlier slice made are left out. Then the archive itself has served."""
        refusal: UnsupportedDocument | PayloadTooLarge | None = None
        try:
            self._extend(leased, base, archive)
        except (UnsupportedDocument, PayloadTooLarge) as error:
            refusal = error
        leased = self._bench.queue.refreshed(leased)
        state = {**leased.job.state, "unfinished": False}
        Submissions(self._resources.storage, self._resources.knowledge).extend(leased, base, (), state, leased.job.total_count)
        commits = JobCommits(self._resources.storage, self._resources.knowledge, [self._bench.queue.refreshed(leased)], base)
        if refusal is None:
            commits.settle(archive, "done")
        else:
            commits.settle(archive, "failed", *reason_of(refusal))

    def _extend(self, leased: Leased, base: KnowledgeBase, archive: JobItem) -> None:
        job = leased.job
        data = self._resources.knowledge.read_original(base.id, archive.original)
        submissions = Submissions(self._resources.storage, self._resources.knowledge, Operation(job.actor))
        entries, total = int(job.state.get("entries", 0)), job.total_count
        for batch in _batches(islice(unpack(data, self._resources.parsing), entries, None)):
            entries, total = entries + len(batch), total + len(batch)
            drafts = [_draft(archive, entry) for entry in batch]
            submissions.extend(leased, base, drafts, {"unfinished": True, "entries": entries}, total)

    def _refuse_unreadable(self, leased: Leased, base: KnowledgeBase) -> None:
        """End the items of files that did not come out of the archive."""
        commits = JobCommits(self._resources.storage, self._resources.knowledge, [leased], base)
        while refused := [item for item in self._items.waiting_of(leased.job).items if item.spec.get("refused")]:
            for item in refused:
                commits.settle(item, "failed", CODES[UnsupportedDocument], str(item.spec["refused"]))


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.data)
        if len(batch) == _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _draft(archive: JobItem, entry: Entry) -> ItemDraft:
    """The item of a file. Its source is its path in the archive, after the archive's own source or name."""
    source = f"{archive.spec['source']}/{entry.name}"
    reason = entry.reason or ("its path is too long" if len(source.encode()) > MAX_SOURCE_BYTES else "")
    spec: dict[str, Any] = {"refused": f"{entry.name}: {reason}"} if reason else {"source": source}
    if chunking := archive.spec.get("chunking"):
        spec["chunking"] = chunking
    name = entry.name.rpartition("/")[2][-255:]
    return ItemDraft(name=entry.name[-1000:], data=None if reason else entry.data, filename=name, metadata=archive.metadata, spec=spec)
