"""Doing what an erasure asked for: rewriting, removing, overwriting, and checking every place again for the receipt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agenthub.core import json
from agenthub.core.errors import VersionConflict
from agenthub.core.failpoints import failpoint
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest, SegmentEntry
from agenthub.repositories.knowledge.collecting import Collector, Grace
from agenthub.repositories.knowledge.commits import INTENT_SECONDS, Effect, KnowledgeCommits
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, DocumentRepository
from agenthub.repositories.knowledge.erasing import Erasure, ErasureRepository
from agenthub.repositories.knowledge.heat import HeatRepository
from agenthub.repositories.knowledge.holding import Holdings
from agenthub.repositories.knowledge.jobs import JobItemRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.knowledge.rag_queries import RagQueryRepository
from agenthub.repositories.knowledge.reembeddings import drop_mirrors
from agenthub.repositories.knowledge.retention import every_row
from agenthub.repositories.operations import APPLIED_OPERATIONS, Operation
from agenthub.storage.contract import ALL, Compare, Storage, Update

ForgetTexts = Callable[[KnowledgeBase, Sequence[str]], Sequence[str]]
"""Overwrites what caches keep under these texts of the knowledge base; what remains where, in words."""

_ROUNDS: Final = 5
_GONE: Final = {"error": {"code": "not_found", "message": "the document was erased"}}
_REMAINS: Final = (
    "the memory of other processes that had the segment open, until they need the room or end",
    "copies outside this deployment's reach: backups, file system snapshots, and deleted or older object versions of a bucket",
)


@dataclass
class Findings:
    """What is gathered for the receipt."""

    places: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    segments: set[str] = field(default_factory=set)
    past_ended: bool = False

    def note(self, place: str, checked: int, removed: int, found: int = 0) -> None:
        """`found` is what is still there."""
        self.places.append({"place": place, "checked": checked, "removed": removed, "found": found})


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """What an erasure waits for, and when it first looked for files of killed writers."""

    what: str
    swept_at: datetime | None = None


class Expunger:
    """Finishes erasures of one knowledge base, in the hands of whoever has its lease."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, forget_texts: ForgetTexts, grace: Grace | None = None) -> None:
        self._storage = storage
        self._engine = engine
        self._volume = engine.volume
        self._segments = engine.segments
        self._forget_texts = forget_texts
        self._erasures = ErasureRepository(storage)
        self._collector = Collector(storage, engine, grace)

    def finish(self, base: KnowledgeBase, erasure: Erasure) -> bool:
        """Erase and write the receipt; False while something has to be waited for, which the receipt names: then call again.

        Safe to repeat from any point. Raises: CorruptFile when a segment's truth is damaged; VolumeFull; VolumeUnavailable.
        """
        findings = Findings()
        obstacle = self._clear_volume(base, erasure, findings)
        if obstacle is not None:
            self._wait(erasure, obstacle)
            return False
        failpoint("erase.removed")
        self._clear_rows(erasure, findings)
        findings.note("vectors kept of frequent questions", 1, HeatRepository(self._storage).clear(base))
        kept = self._forget_texts(base, findings.texts)
        findings.note("embedding cache", len(findings.texts), len(findings.texts))
        self._engine.forget_segments(base.id, findings.segments)
        findings.note("memory of this process", len(findings.segments), len(findings.segments))
        remains = [*self._storage.shred(), *kept]
        findings.note("database file", 1, 0)
        failpoint("erase.shredded")
        self._complete(erasure, {"places": findings.places, "remains": [*remains, *self._segments.remains, *_REMAINS]})
        return True

    def _clear_volume(self, base: KnowledgeBase, erasure: Erasure, findings: Findings) -> _Obstacle | None:
        """Take the document from every file; what keeps some from going, None when nothing does."""
        if not self._rewrite(base, erasure, findings):
            return _Obstacle("others who change the knowledge base at the moment")
        failpoint("erase.rewritten")
        if (ends := self._writer_since_before(erasure)) is not None:
            return _Obstacle(f"a writer that began before the request, until it ends or {_minute(ends)}")
        if not self._remove_files(base, erasure, findings):
            return _Obstacle("others who change the knowledge base at the moment")
        return self._sweep(base, erasure, findings)

    def _wait(self, erasure: Erasure, obstacle: _Obstacle) -> None:
        """Say in the receipt what is waited for."""
        report = {**erasure.report, "waits_for": [obstacle.what]}
        if obstacle.swept_at is not None:
            report["swept_at"] = obstacle.swept_at.isoformat()
        if report != erasure.report:
            with suppress(VersionConflict):  # another maintainer is at it
                self._erasures.wait(erasure, report)

    def _complete(self, erasure: Erasure, report: dict[str, Any]) -> None:
        try:
            self._erasures.complete(erasure, report)
        except VersionConflict:
            return  # another maintainer came to the same end

    # --- segments ---

    def _rewrite(self, base: KnowledgeBase, erasure: Erasure, findings: Findings) -> bool:
        """Put segments without the document in the place of those that have it; False when others were faster each time."""
        for _ in range(_ROUNDS):
            current = KnowledgeBaseRepository(self._storage).get(base.tenant_id, base.id)
            manifest = self._engine.read_manifest(base.id, current.pointer)
            affected = [entry for entry in manifest.segments if self._segments.mentions(base.id, entry.id, erasure.document_id)]
            findings.segments |= {entry.id for entry in affected}
            if not affected:
                findings.note("segments of the current generation", len(manifest.segments), len(findings.segments))
                return True
            self._gather_texts(base, erasure, affected, findings)
            findings.past_ended |= self._rewritten(current, manifest, affected)
        return False

    def _rewritten(self, base: KnowledgeBase, manifest: Manifest, affected: Sequence[SegmentEntry]) -> bool:
        # An erase in the list of generations: those before it, which list the segments that go, can't be gone back to.
        return Merges(self._storage, self._engine, Operation()).rewrite(base, manifest, affected, kind="erase") is not None

    def _gather_texts(self, base: KnowledgeBase, erasure: Erasure, affected: Sequence[SegmentEntry], findings: Findings) -> None:
        for entry in affected:
            chunks = self._segments.chunks(base.id, entry)
            findings.texts += [chunk.searched_text for chunk in chunks if chunk.document_id == erasure.document_id]

    # --- files ---

    def _writer_since_before(self, erasure: Erasure) -> datetime | None:
        """When the last chance ends of someone who began before the request and may still be writing what it concerns."""
        expiry = Holdings(self._storage, self._engine, 0).oldest_writer(erasure.knowledge_base_id)
        return expiry if expiry is not None and expiry - timedelta(seconds=INTENT_SECONDS) <= erasure.requested_at else None

    def _sweep(self, base: KnowledgeBase, erasure: Erasure, findings: Findings) -> _Obstacle | None:
        """Remove what writers left that were killed before they committed: it may be the document under any name.

        Whose files these are can't be told, so all wait that are there at the first look after the request, until every writer
        that is at work then has ended. What comes later is by writers who began when the document was hidden.
        """
        swept = self._collector.sweep(base.id)
        findings.note("files that no generation lists", swept.seen, swept.removed)
        first = datetime.fromisoformat(erasure.report["swept_at"]) if "swept_at" in erasure.report else self._storage.now()
        if not any(seen_at <= first for seen_at in swept.waiting):
            return None
        return _Obstacle("files that no generation lists, until the writers that may own them end: within an hour", first)

    def _remove_files(self, base: KnowledgeBase, erasure: Erasure, findings: Findings) -> bool:
        """Remove every segment on the volume that has the document; False when a restore put one back into the current generation."""
        names = self._volume.files(base.id)
        segments: dict[str, list[str]] = {}
        for name in names:
            if name.startswith("segments/"):
                segments.setdefault(name.split("/")[1], []).append(name)
        doomed = {key for key in segments if self._segments.mentions(base.id, key, erasure.document_id)}
        findings.note("segments of shadows in another model", len(segments), drop_mirrors(self._storage, base, doomed))
        failpoint("erase.unmirrored")
        if doomed and not findings.past_ended:
            self._end_past(base)
        if doomed & {entry.id for entry in self._current(base).segments}:
            return False
        findings.segments |= doomed
        removed = self._segments.remove(base.id, [name for key in sorted(doomed) for name in segments[key]])
        findings.note("segment files on the volume", sum(map(len, segments.values())), removed)
        originals = sum(name.startswith("originals/") for name in names)
        findings.note("uploaded files on the volume", originals, self._volume.remove(base.id, list(erasure.originals)))
        return True

    def _end_past(self, base: KnowledgeBase) -> None:
        """Make a generation that changes nothing: a merge left the document behind, and generations since the request still list it."""
        commits = KnowledgeCommits(self._storage, self._engine, Operation())
        commits.publish(base, (), lambda _base, _generation, _now: Effect(None, "erase"))

    def _current(self, base: KnowledgeBase) -> Manifest:
        latest = KnowledgeBaseRepository(self._storage).get(base.tenant_id, base.id)
        return self._engine.read_manifest(base.id, latest.pointer)

    # --- rows ---

    def _clear_rows(self, erasure: Erasure, findings: Findings) -> None:
        tenant_id, key = erasure.tenant_id, erasure.document_id
        live = int(self._storage.get(DocumentRepository.table, tenant_id, key) is not None)
        past = self._storage.count(DOCUMENT_HISTORY, tenant_id, Compare("document_id", "eq", key))
        findings.note("documents and their history", 2, 0, found=live + past)
        checked, removed = RagQueryRepository(self._storage).forget_document(tenant_id, key)
        findings.note("answers to questions that it was a source of", checked, removed)
        findings.note(
            "items of jobs", 1, 0, found=self._storage.count(JobItemRepository.table, tenant_id, Compare("document_id", "eq", key))
        )
        checked, removed = self._clear_answers(erasure)
        findings.note("answers kept for repeated requests", checked, removed)

    def _clear_answers(self, erasure: Erasure) -> tuple[int, int]:
        """Answers that show the document say from now on that it was erased: a late repeat must not bring it back."""
        checked = removed = 0
        base = KnowledgeBaseRepository(self._storage).get(erasure.tenant_id, erasure.knowledge_base_id)
        for row in every_row(self._storage, APPLIED_OPERATIONS, base, ALL):
            checked += 1
            if erasure.document_id.encode() in row["body"] and erasure.id.encode() not in row["body"]:
                changes = {"status": 404, "body": json.dumps(_GONE), "headers": {}}
                self._storage.commit([Update(APPLIED_OPERATIONS, erasure.tenant_id, row["id"], changes)])
                removed += 1
        return checked, removed


def _minute(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")
