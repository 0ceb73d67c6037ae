"""Repairing: derived files are made again from the truth as new segments; damaged truth is put in quarantine, and on the operator's
explicit word an older generation takes its place. Files on the volume are never changed or removed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agenthub.core.errors import CorruptFile, GenerationConflict, MissingFile, NotRetained
from agenthub.core.failpoints import failpoint
from agenthub.rag.configuration import RagSettings
from agenthub.rag.contract import Damage
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest, SegmentEntry
from agenthub.rag.references import Pointer
from agenthub.rag.verifying import check_manifest
from agenthub.repositories.knowledge.commits import Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.restoring import Restored, Restores
from agenthub.repositories.knowledge.retention import Retention
from agenthub.repositories.knowledge.segment_checks import SegmentCheck, SegmentCheckRepository
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Storage


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: segments written anew, and those whose truth is damaged, now in quarantine."""

    rebuilt: tuple[str, ...]
    quarantined: tuple[str, ...]
    generation: int


class Repairs:
    """Repairs knowledge bases, and looks after their segments one at a time."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation | None = None) -> None:
        self._storage = storage
        self._engine = engine
        self._operation = operation or Operation()
        self._checks = SegmentCheckRepository(storage)
        self._history = History(storage)

    def repair(self, base: KnowledgeBase, damages: Sequence[Damage]) -> Repaired:
        """Write every segment anew that has damage but whose truth can be had; put the others in quarantine.

        Raises: GenerationConflict; VolumeFull; VolumeUnavailable; StorageUnavailable. What was repaired before stays so.
        """
        rebuilt: list[str] = []
        quarantined: list[str] = []
        generation = base.generation
        for segment_id in dict.fromkeys(one.segment_id for one in damages if one.segment_id):
            try:
                generation = self._rebuild(base, segment_id)
                rebuilt.append(segment_id)
            except (CorruptFile, MissingFile):
                self._checks.note(base, segment_id, [one for one in damages if one.segment_id == segment_id])
                quarantined.append(segment_id)
        return Repaired(tuple(rebuilt), tuple(quarantined), generation)

    def _rebuild(self, base: KnowledgeBase, segment_id: str) -> int:
        """The generation that lists the segment's new form. Raises: CorruptFile or MissingFile when its truth is damaged."""
        entry = next(one for one in self._engine.read_manifest(base.id, base.pointer).segments if one.id == segment_id)
        commits = KnowledgeCommits(self._storage, self._engine, self._operation)
        with commits.staging(base, copying=True) as staging:
            made = self._engine.segments.rewritten(base.id, entry)
            staging.segments.append(made)
            failpoint("repair.written")
            generation: int = commits.publish(base, (), _plan(segment_id), staging, lambda manifest: _replaced(manifest, entry, made))
            return generation

    # --- going back ---

    def newest_intact(self, base: KnowledgeBase) -> int:
        """The newest kept generation before the current one whose truth is whole in every file.

        Raises: NotRetained when there is none.
        """
        known: dict[str, bool] = {}
        retained = Retention(self._storage).of(base, self._storage.now())
        pointers = Retention(self._storage).retained_generations(base, self._storage.now())
        older = sorted({one.generation: one for one in pointers if retained.keeps(one.generation)}.items(), reverse=True)
        whole: dict[str, bool] = {}
        for generation, pointer in older:
            if generation >= base.generation:
                continue
            if pointer.name not in whole:
                whole[pointer.name] = self._whole(base, pointer, known)
            if whole[pointer.name]:
                return generation
        raise NotRetained("no kept generation is whole: import a bundle or restore a backup", field="generation")

    def _whole(self, base: KnowledgeBase, pointer: Pointer, known: dict[str, bool]) -> bool:
        manifest, found = check_manifest(self._engine.volume, base.id, pointer)
        if manifest is None or found:
            return False
        for entry in manifest.segments:
            if entry.id not in known:
                known[entry.id] = not any(one.kind == "truth" for one in self._engine.segments.check(base.id, entry, manifest.signature))
            if not known[entry.id]:
                return False
        return True

    def go_back(self, base: KnowledgeBase, generation: int) -> Restored:
        """Make that generation the newest one, also when the current manifest can't be read.

        Raises: as `Restores.restore`.
        """
        engine = _Recovering(self._engine, base, self._history.at(base, generation))
        restored: Restored = Restores(self._storage, engine, self._operation).restore(base, generation, lambda one: one)
        return restored

    # --- scrubbing ---

    def scrub(self, base: KnowledgeBase) -> SegmentCheck | None:
        """Look at the one segment of the current generation that was not looked at for longest; None when there is none.

        Raises: MissingFile or CorruptFile when the manifest can't be read; VolumeUnavailable.
        """
        manifest = self._engine.read_manifest(base.id, base.pointer)
        known = self._checks.of(base)
        listed = {entry.id for entry in manifest.segments}
        self._checks.forget_unlisted(base, [one for one in known if one not in listed])
        entry = min(manifest.segments, key=lambda one: _looked_at(known.get(one.id)), default=None)
        if entry is None:
            return None
        return self._checks.note(base, entry.id, self._engine.segments.check(base.id, entry, manifest.signature))

    def due(self, base: KnowledgeBase) -> float:
        """When the segment that `scrub` would take was looked at last: seconds since 1970, 0 for never, infinity for none."""
        known = self._checks.of(base)
        entries = self._engine.read_manifest(base.id, base.pointer).segments
        return min((_looked_at(known.get(entry.id)) for entry in entries), default=float("inf"))


class _Recovering(KnowledgeEngine):
    """An engine for going back: where the current manifest is lost, that of the wanted generation stands in for it."""

    def __init__(self, engine: KnowledgeEngine, current: KnowledgeBase, wanted: KnowledgeBase) -> None:
        super().__init__(engine.volume, RagSettings(), segments=engine.segments)
        self._lost = current.manifest_sha256
        self._wanted = wanted

    def read_manifest(self, kb_id: str, pointer: Pointer) -> Manifest:
        try:
            return super().read_manifest(kb_id, pointer)
        except (CorruptFile, MissingFile):
            if pointer.sha256 != self._lost:
                raise
            old = super().read_manifest(kb_id, self._wanted.pointer)
            return replace(old, generation=pointer.generation, epoch=pointer.epoch, sha256=pointer.sha256)


def _looked_at(check: SegmentCheck | None) -> float:
    return check.checked_at.timestamp() if check else 0.0


def _plan(segment_id: str) -> Plan:
    def plan(_base: KnowledgeBase, generation: int, _now: datetime) -> Effect:
        return Effect(generation, "merge", details={"repaired_segment": segment_id})

    return plan


def _replaced(manifest: Manifest, entry: SegmentEntry, made: SegmentEntry) -> Manifest:
    """The manifest with the new segment in the old one's place: the same rows, hidden by the same tombstones."""
    if entry not in manifest.segments:
        raise GenerationConflict("the segment was merged or taken back meanwhile; verify again", retry_after_seconds=1)
    new = replace(made, covers_generation=entry.covers_generation, restored_generation=entry.restored_generation)
    return replace(manifest, segments=tuple(new if one == entry else one for one in manifest.segments))
