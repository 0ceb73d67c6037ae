"""Merging in a live knowledge base: beside appends and deletes it always succeeds, a second merge of the same segments is dropped.

The segment is written once, whatever is committed meanwhile; only the manifest is made again after a lost race. What the merge
left out was hidden in the generation it read, which is what its segment covers (RELIABILITY.md B5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from agenthub.core.errors import GenerationConflict, MissingFile
from agenthub.core.failpoints import failpoint
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest, SegmentEntry
from agenthub.rag.merging import Burials, Rewriting, SegmentSize, plan_merge
from agenthub.rag.merging_apart import rewrite_apart
from agenthub.repositories.knowledge.commits import Effect, ErasedMeanwhile, KnowledgeCommits, Staging
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import ChangeKind
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Storage

MOST_ROUNDS: Final = 8
"""How many merges one call makes at most: a tier that fills another, and what came meanwhile."""


_PATIENCE: Final = 20


class Overtaken(GenerationConflict):
    """The segments to merge are no longer those of the current generation: another merge or a restore was first."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What one merge did."""

    generation: int
    inputs: int
    chunk_count: int
    size_bytes: int


class Merges:
    """Merges the segments of knowledge bases."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation | None = None) -> None:
        self._storage = storage
        self._engine = engine
        self._operation = operation
        self._snapshots = Snapshots(storage, engine)

    def due(self, base: KnowledgeBase, *, at_rest: bool = False) -> bool:
        """Whether a look at the manifest alone calls for a merge: cheap enough to be asked after every commit."""
        manifest = self._engine.read_manifest(base.id, base.pointer)
        return bool(plan_merge([SegmentSize(entry.chunk_count, entry.chunk_count) for entry in manifest.segments], at_rest=at_rest))

    def merge(self, base: KnowledgeBase, *, at_rest: bool = False) -> Merged | None:
        """Make the one merge that the plan wants now; None when it wants none, or another was faster.

        Raises: NotFound when the knowledge base was deleted; CorruptFile naming what is damaged; VolumeFull; VolumeUnavailable.
        """
        try:
            return self._merge(base, at_rest)
        except MissingFile:
            if KnowledgeBaseRepository(self._storage).get(base.tenant_id, base.id).pointer == base.pointer:
                raise
            return None  # what was to be merged is merged and collected

    def _merge(self, base: KnowledgeBase, at_rest: bool) -> Merged | None:
        manifest = self._engine.read_manifest(base.id, base.pointer)
        visible = self._snapshots.at(base).visible_counts
        places = plan_merge([SegmentSize(e.chunk_count, v) for e, v in zip(manifest.segments, visible, strict=True)], at_rest=at_rest)
        if not places:
            return None
        inputs = [manifest.segments[place] for place in places]
        clear = [e for e, v in zip(manifest.segments, visible, strict=True) if v == e.chunk_count and e not in inputs]
        return self.rewrite(base, manifest, inputs, clear)

    def rewrite(
        self,
        base: KnowledgeBase,
        manifest: Manifest,
        inputs: Sequence[SegmentEntry],
        clear: Sequence[SegmentEntry] = (),
        kind: ChangeKind = "merge",
    ) -> Merged | None:
        """Put one new segment with what is visible in the place of these; None when another was faster.

        `manifest` is that of `base`, as it was read. Raises: as `merge`.
        """
        commits = KnowledgeCommits(self._storage, self._engine, self._operation)
        burials = Burials(manifest.in_force(self._snapshots.tombstones(base)))
        try:
            with commits.staging(base, copying=True) as staging:
                segments, language = self._engine.segments, base.language
                output = rewrite_apart(segments, base.id, inputs, burials, signature=base.signature, language=language)
                staging.segments += [output] if output else []
                rewriting = Rewriting(tuple(inputs), output, base.generation, tuple(clear), manifest.revoked)
                failpoint("merge.written")
                return _publish(commits, staging, rewriting, kind)
        except (Overtaken, ErasedMeanwhile):
            return None


def _publish(commits: KnowledgeCommits, staging: Staging, rewriting: Rewriting, kind: ChangeKind) -> Merged:
    output = rewriting.output

    def revision(manifest: Manifest) -> Manifest:
        segments = rewriting.applied(manifest)
        if segments is None:
            raise Overtaken("these segments were merged or taken back meanwhile")
        return replace(manifest, segments=segments)

    def plan(_base: KnowledgeBase, generation: int, _now: datetime) -> Effect:
        count, size = (output.chunk_count, output.size_bytes) if output else (0, 0)
        return Effect(Merged(generation, len(rewriting.inputs), count, size), kind)

    return _patiently(lambda: commits.publish(staging.base, (), plan, staging, revision))


def _patiently(publish: Callable[[], Merged]) -> Merged:
    """Writers may win many races in a row; what was built is not thrown away for that."""
    for _ in range(_PATIENCE):
        try:
            return publish()
        except Overtaken:
            raise
        except GenerationConflict:
            continue
    raise Overtaken("writers left no room for this merge")
