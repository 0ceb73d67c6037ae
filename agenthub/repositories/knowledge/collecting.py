"""Collecting: removing files that nothing refers to, without ever taking one from a reader or a writer (RELIABILITY.md B4).

Candidates are listed first; the writers at work, the row and the generations that are held are read afterwards, so that whatever
was committed before the list was made is known. A candidate is marked, waits for its grace period by the database's clock, and
is checked once more before it goes. Only names that the engine makes are ever looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from agenthub.core.errors import VolumeUnavailable
from agenthub.core.failpoints import failpoint
from agenthub.core.types import EVERY_TENANT, KnowledgeBaseId, TenantId
from agenthub.rag.engine import KnowledgeEngine
from agenthub.repositories.knowledge.commits import INTENT_SECONDS
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, DocumentRepository
from agenthub.repositories.knowledge.holding import Holdings, segment_files
from agenthub.repositories.knowledge.jobs import JOB_TABLES
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import LEASES
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS, PINS, TOMBSTONES, KnowledgeOperation
from agenthub.repositories.knowledge.reembeddings import MIRRORS, ReembeddingRepository, mirrors_of
from agenthub.repositories.knowledge.segment_checks import SEGMENT_CHECKS, SegmentCheckRepository
from agenthub.storage.contract import (
    ALL,
    MAX_PAGE,
    And,
    Compare,
    DbNow,
    Delete,
    DeleteWhere,
    Filter,
    Insert,
    Or,
    Query,
    Row,
    Storage,
    Table,
    Write,
)

_BATCH: Final = 500
"""Rows in one commit, and files between two checks."""

Reason = Literal["dereferenced", "orphan"]


@dataclass(frozen=True, slots=True)
class Grace:
    """How long a file stays after it was first seen to be unused, in seconds.

    `dereferenced`: a generation once listed it; at least the longest request. `orphan`: none ever did, as far as is known.
    """

    dereferenced_seconds: float = 2 * 3600.0
    orphan_seconds: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class GarbageMark:
    """A file that nothing referred to when it was marked, by the database's clock. `id` is `<knowledge base>/<path>`."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    path: str
    reason: Reason
    marked_at: datetime


GARBAGE: Final = Table.of("kb_garbage", GarbageMark, indexes=[("knowledge_base_id", "id"), ("knowledge_base_id", "marked_at")])


@dataclass(frozen=True, slots=True)
class Collected:
    """What one run did: files seen, newly marked, removed."""

    seen: int
    marked: int
    removed: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep saw: files that no generation ever listed, how many of them were removed, and of those that may still be a
    writer's when each was first seen.
    """

    seen: int
    removed: int
    waiting: tuple[datetime, ...]


class Collector:
    """Collects the files of one knowledge base after the other."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, grace: Grace | None = None) -> None:
        self._storage = storage
        self._engine = engine
        self._volume = engine.volume
        self._grace = grace or Grace()
        self._holdings = Holdings(storage, engine, self._grace.dereferenced_seconds)

    def collect(self, kb_id: str) -> Collected:
        """Mark what is unused, and remove what has been so for its grace period.

        Deleted knowledge bases and folders that belong to none lose everything. Raises: MissingFile or CorruptFile when a held
        generation can't be read, and then nothing is removed; VolumeUnavailable.
        """
        names = self._volume.files(kb_id)
        failpoint("collect.listed")
        base = self._base(kb_id)
        if base is not None and base.state == "importing":
            return Collected(len(names), 0, 0)
        needed = self._needed(kb_id)
        marks = {str(row["path"]): row for row in self._marks(kb_id)}
        self._forget(kb_id, [path for path in marks if path in needed or path not in set(names)])
        fresh = [name for name in names if name not in needed and name not in marks]
        self._mark(kb_id, base, fresh)
        removed = self._remove_due(kb_id, set(names))
        if base is not None and base.state == "deleted" and removed == len(names):
            self._forget_rows(base)
        return Collected(len(names), len(fresh), removed)

    def sweep(self, kb_id: str) -> Swept:
        """Remove what writers left who never committed, without a grace: whoever could still commit it began after it was first seen.

        For erasing: killed writers may have left contents under any name. Raises: as `collect`.
        """
        names = self._volume.files(kb_id)
        begun = self._oldest_writer_began(kb_id)  # after the list: whoever begins now has no file in it; before the row, as in `_remove`
        failpoint("collect.sweeping")
        needed = self._needed(kb_id)
        loose = [name for name in names if name not in needed]
        self._mark(kb_id, self._base(kb_id), loose)
        marks = {str(row["path"]): row for row in self._marks(kb_id, Compare("reason", "eq", "orphan"))}
        orphans = [marks[name] for name in loose if name in marks]
        doomed = [str(row["path"]) for row in orphans if not _may_be_his(row, begun)]
        removed = self._engine.segments.remove(kb_id, doomed)
        self._forget(kb_id, doomed)
        return Swept(len(orphans), removed, tuple(row["marked_at"] for row in orphans if _may_be_his(row, begun)))

    def _base(self, kb_id: str) -> KnowledgeBase | None:
        row = self._storage.get(KnowledgeBaseRepository.table, EVERY_TENANT, kb_id)
        return KnowledgeBaseRepository.from_row(row) if row else None

    def _needed(self, kb_id: str) -> set[str]:
        """Every file that is referred to now."""
        base = self._base(kb_id)
        if base is None or base.state == "deleted":
            return set()
        quarantined = segment_files(SegmentCheckRepository(self._storage).quarantined(base))
        shadows = segment_files(one.segment_id for one in mirrors_of(self._storage, base) if one.segment_id)
        # Read after the mirrors: a switch takes segments from there to a manifest, never back.
        latest = self._base(kb_id) or base
        return shadows | self._holdings.of(latest, self._storage.now()).files | self._holdings.originals(base) | quarantined

    # --- marks ---

    def _marks(self, kb_id: str, where: Filter = ALL) -> list[Row]:
        whole = And((Compare("knowledge_base_id", "eq", kb_id), where))
        found: list[Row] = []
        after: tuple[str, ...] | None = None
        while True:
            rows = self._storage.find(GARBAGE, EVERY_TENANT, Query(whole, (), MAX_PAGE, after))
            found += rows
            if len(rows) < MAX_PAGE:
                return found
            after = (rows[-1]["id"],)

    def _mark(self, kb_id: str, base: KnowledgeBase | None, names: Sequence[str]) -> None:
        published = self._published(base, names) if base else set()
        tenant_id = base.tenant_id if base else ""
        rows = [
            {
                "id": f"{kb_id}/{name}",
                "tenant_id": tenant_id,
                "knowledge_base_id": kb_id,
                "path": name,
                "reason": "dereferenced" if name in published else "orphan",
                "marked_at": DbNow(),
            }
            for name in names
        ]
        self._in_batches([Insert(GARBAGE, row, ignore_existing=True) for row in rows])

    def _published(self, base: KnowledgeBase, names: Sequence[str]) -> set[str]:
        """Those of the files that some committed generation listed. What can't be told waits for the longer time."""
        if base.state == "deleted":
            return set(names)
        found: set[str] = set()
        manifests = [name for name in names if name.startswith("manifests/")]
        for start in range(0, len(manifests), _BATCH):
            some = Compare("manifest_name", "in", tuple(manifests[start : start + _BATCH]))
            where = And((Compare("knowledge_base_id", "eq", base.id), some))
            for row in self._storage.find(OPERATIONS, base.tenant_id, Query(where, (), MAX_PAGE)):
                found |= self._listed(base, row)
        return found

    def _listed(self, base: KnowledgeBase, row: Row) -> set[str]:
        operation = KnowledgeOperation(**row)
        try:
            manifest = self._engine.read_manifest(base.id, operation.pointer)
        except VolumeUnavailable:
            return {operation.manifest_name}
        return {operation.manifest_name} | segment_files(entry.id for entry in manifest.segments)

    def _forget(self, kb_id: str, paths: Collection[str]) -> None:
        self._in_batches([Delete(GARBAGE, EVERY_TENANT, f"{kb_id}/{path}", missing_ok=True) for path in paths])

    def _in_batches(self, writes: Sequence[Write]) -> None:
        for start in range(0, len(writes), _BATCH):
            self._storage.commit(writes[start : start + _BATCH])

    # --- removing ---

    def _remove_due(self, kb_id: str, names: set[str]) -> int:
        due = [row for row in self._marks(kb_id, self._overdue()) if row["path"] in names]
        return sum(self._remove(kb_id, due[start : start + _BATCH]) for start in range(0, len(due), _BATCH))

    def _overdue(self) -> Filter:
        grace: Mapping[Reason, float] = {
            "dereferenced": self._grace.dereferenced_seconds,
            "orphan": self._grace.orphan_seconds,
        }
        return Or(
            tuple(And((Compare("reason", "eq", reason), Compare("marked_at", "le", DbNow(-seconds)))) for reason, seconds in grace.items())
        )

    def _remove(self, kb_id: str, due: Sequence[Row]) -> int:
        """The second check, and then the end of what it leaves."""
        begun = self._oldest_writer_began(kb_id)  # before the row: a writer that is gone by now is in the row that is read next
        failpoint("collect.checking")
        needed = self._needed(kb_id)
        doomed = [row["path"] for row in due if row["path"] not in needed and not _may_be_his(row, begun)]
        failpoint("collect.remove")
        removed = self._engine.segments.remove(kb_id, doomed)
        self._forget(kb_id, doomed)
        return removed

    def _oldest_writer_began(self, kb_id: str) -> datetime | None:
        """When the writer that is longest at work here began; None when nobody writes."""
        expiry = self._holdings.oldest_writer(kb_id)
        return expiry - timedelta(seconds=INTENT_SECONDS) if expiry else None

    def _forget_rows(self, base: KnowledgeBase) -> None:
        """The end of a deleted knowledge base whose files are gone; its own row stays, so that its id is never used again."""
        if not self._storage.count(OPERATIONS, base.tenant_id, Compare("knowledge_base_id", "eq", base.id)):
            return
        ledger = (TOMBSTONES, PINS, INTENTS, LEASES, GARBAGE, SEGMENT_CHECKS, MIRRORS, ReembeddingRepository.table)
        tables = (DocumentRepository.table, DOCUMENT_HISTORY, *ledger, *JOB_TABLES, OPERATIONS)
        own = Compare("knowledge_base_id", "eq", base.id)
        self._storage.commit([DeleteWhere(table, base.tenant_id, own) for table in tables])


def _may_be_his(row: Mapping[str, Any], begun: datetime | None) -> bool:
    """Whether the file may be that of a writer who began before it was marked and can still commit."""
    return row["reason"] == "orphan" and begun is not None and begun <= row["marked_at"]
