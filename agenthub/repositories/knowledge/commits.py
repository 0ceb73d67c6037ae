"""Publishing a generation: files first, then one compare-and-set of the knowledge base's row (design/KNOWLEDGE_STORE.md)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from numpy import float32
from numpy.typing import NDArray

from agenthub.core.errors import AlreadyExists, GenerationConflict, ModelMoved, NotFound, OutcomeUnknown, TooManyCommits, VersionConflict
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import FileRef, Pointer
from agenthub.rag.segment import Chunk, SegmentEntry
from agenthub.repositories.base import OperationRepeated, Repository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository, operation_record
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS, TOMBSTONES, ChangeKind, KnowledgeOperation, TombstoneRow
from agenthub.repositories.knowledge.retention import Retention
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import And, Compare, DbNow, Delete, Filter, Insert, Or, Storage, Update, Write

INTENT_SECONDS: Final = 3600.0
"""How long a writer may take from its first byte to its commit: the longest request a platform allows."""
_ATTEMPTS: Final = 12
_BACKOFF_SECONDS: Final = 0.02
_LONGEST_BACKOFF_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 60.0
"""A commit that lost for so long is given up: where one takes seconds, its attempts would last as long as a request may."""
_HELD_SECONDS: Final = 60.0
"""How long a writer waits in all for switches to another model; each holds a knowledge base for a few seconds."""
_HELD_PAUSE_SECONDS: Final = 0.05
_UNHELD: Final[Filter] = Or((Compare("held_until", "is_null"), Compare("held_until", "le", DbNow())))
_MOVING: Final = (
    "generation",
    "epoch",
    "manifest_name",
    "manifest_sha256",
    "manifest_length_bytes",
    "operation_id",
    "document_count",
    "chunk_count",
    "size_bytes",
    "updated_at",
)
"""The columns of a knowledge base's row that a commit changes."""


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """The model that a knowledge base's vectors are of."""

    embedding_model: str
    signature: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Burial:
    """A document or chunk that the commit hides."""

    kind: Literal["document", "chunk"]
    target_id: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What a commit does beside adding segments, computed against the row it replaces.

    The deltas move the counters of the row. `result` is the answer of the request, kept for its repeats; `kind` and `details`
    are what the list of generations says.
    """

    result: Any
    kind: ChangeKind
    burials: tuple[Burial, ...] = ()
    writes: tuple[Write, ...] = ()
    documents_delta: int = 0
    chunks_delta: int = 0
    size_delta_bytes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    model: PinnedModel | None = None
    """The model of the new generation, where that is another one."""


Plan = Callable[[KnowledgeBase, int, datetime], Effect]
"""Given the row to be replaced, the generation to be made and the database's time: the effect. Called again after a lost race."""


Revision = Callable[[Manifest], Manifest]
"""Given the manifest to be replaced, at the row's generation: one with other contents. Called again after a lost race."""


class ErasedMeanwhile(GenerationConflict):
    """What was to be copied may have been erased since it was read."""


@dataclass(slots=True)
class Staging:
    """A writer at work in one knowledge base: its files are durable but unseen until `publish`."""

    commits: KnowledgeCommits
    base: KnowledgeBase
    intent_id: str
    fence: str
    segments: list[SegmentEntry] = field(default_factory=list)
    originals: list[FileRef] = field(default_factory=list)

    def put_original(self, data: bytes) -> FileRef:
        """Keep uploaded bytes on the volume."""
        reference = self.commits.engine.put_original(self.base.id, data)
        self.originals.append(reference)
        return reference

    def write_segment(self, chunks: Sequence[Chunk], vectors: NDArray[float32]) -> None:
        """Write a segment with the knowledge base's pinned signature and language."""
        base = self.base
        entry = self.commits.engine.write_segment(base.id, chunks, vectors, signature=base.signature, language=base.language)
        self.segments.append(entry)

    def ending(self) -> Delete:
        """The write that ends this writer's time, for the commit that first refers to its files; refused when it is over already."""
        alive = And((Compare("fence", "eq", self.fence), Compare("expires_at", "gt", DbNow())))
        return Delete(INTENTS, self.base.tenant_id, self.intent_id, where=alive)

    def publish(self, plan: Plan) -> Any:
        """Make the segments and the plan's effect visible in one commit; returns the effect's result.

        Raises: NotFound when the knowledge base was deleted meanwhile; ModelMoved when it is in another model than the segments;
        GenerationConflict when it moved too fast or this writer took too long; OutcomeUnknown when the database can't say.
        """
        return self.commits.publish(self.base, self.segments, plan, self)


class KnowledgeCommits(Repository[KnowledgeBase]):
    """The only writer of knowledge bases' pointers."""

    table = KnowledgeBaseRepository.table
    entity = KnowledgeBase

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation | None = None) -> None:
        super().__init__(storage, operation)
        self.engine = engine
        self._bases = KnowledgeBaseRepository(storage)

    @contextmanager
    def staging(self, base: KnowledgeBase, *, copying: bool = False) -> Iterator[Staging]:
        """Register an intent, then give a place to put files. Files are removed again when the block fails, unless it is
        unknown whether they were published.

        `copying`: what is put there was in the knowledge base when `base` was read. Raises: ErasedMeanwhile when that may since have been
        erased: an erasure waits for writers whose intents it sees, so nobody may copy what he read before an intent it doesn't see.
        """
        staging = Staging(self, base, f"{base.id}.{random_name()}", random_name())
        self._storage.commit([Insert(INTENTS, self._intent_row(staging))])
        failpoint("commit.intent")
        try:
            if copying:
                self._refuse_erased(base)
            yield staging
        except OutcomeUnknown:
            raise
        except BaseException:
            self._abandon(staging)
            raise

    def _refuse_erased(self, base: KnowledgeBase) -> None:
        if Retention(self._storage).erased_since(base):
            raise ErasedMeanwhile("something was erased meanwhile; try again", retry_after_seconds=1)

    def _intent_row(self, staging: Staging) -> dict[str, Any]:
        base = staging.base
        expiry = DbNow(INTENT_SECONDS)
        return {
            "id": staging.intent_id,
            "tenant_id": base.tenant_id,
            "knowledge_base_id": base.id,
            "fence": staging.fence,
            "expires_at": expiry,
        }

    def _abandon(self, staging: Staging) -> None:
        for entry in staging.segments:
            self.engine.discard_segment(staging.base.id, entry)
        self.engine.volume.discard(staging.base.id, staging.originals)
        self._storage.commit([Delete(INTENTS, staging.base.tenant_id, staging.intent_id, missing_ok=True)])

    def publish(
        self,
        base: KnowledgeBase,
        added: Sequence[SegmentEntry],
        plan: Plan,
        staging: Staging | None = None,
        revision: Revision | None = None,
        *,
        holder: bool = False,
    ) -> Any:
        """Commit a new generation; without `staging` and `revision` it adds no files (deletes work on a full disk).

        `revision` changes what the manifest lists beside adding segments. `holder`: the caller holds the
        knowledge base, for which others wait.

        Raises: as `Staging.publish`.
        """
        operation_id = self._operation.id or random_name()
        end = time.monotonic() + _PATIENCE_SECONDS
        for attempt in range(_ATTEMPTS):
            with self._turn(base, holder) as current:
                if added and current.signature != base.signature:
                    raise ModelMoved("the knowledge base has another embedding model now; try again", retry_after_seconds=1)
                with self._timed("files"):
                    pointer = self._put_manifest(current, added, operation_id, revision)
                try:
                    return self._swap(current, pointer, plan, operation_id, staging, holder)
                except (VersionConflict, NotFound) as error:
                    self._lost(current, pointer, staging, error)
            self.engine.observer.count("kb_commit", result="rebased")
            if time.monotonic() > end:
                break
            time.sleep(random.uniform(0, min(_BACKOFF_SECONDS * 2**attempt, _LONGEST_BACKOFF_SECONDS)))  # noqa: S311 - jitter
        self.engine.observer.count("kb_commit", result="conflict")
        raise _overtaken(self._storage.commit_seconds)

    @contextmanager
    def _turn(self, base: KnowledgeBase, holder: bool) -> Iterator[KnowledgeBase]:
        """This process's turn with the row as it is now, when nobody else holds the knowledge base any more."""
        limit = time.monotonic() + _HELD_SECONDS
        while True:
            with self.engine.turn(base.id):
                current = self._bases.get(base.tenant_id, base.id)
                if holder or current.held_until is None or current.held_until <= self._storage.now():
                    yield current
                    return
            if time.monotonic() > limit:
                raise GenerationConflict("the knowledge base is being switched to another model; try again", retry_after_seconds=1)
            time.sleep(_HELD_PAUSE_SECONDS)

    def _put_manifest(self, current: KnowledgeBase, added: Sequence[SegmentEntry], operation_id: str, revision: Revision | None) -> Pointer:
        """The next pointer. A commit without files keeps the manifest, so that it needs no disk."""
        generation = current.generation + 1
        if not added and revision is None:
            return replace(current.pointer, generation=generation)
        manifest = self.engine.read_manifest(current.id, current.pointer)
        revised = manifest if revision is None else revision(manifest)
        successor = revised.successor(generation=generation, added=added, operation_id=operation_id, now=self._storage.now())
        return self.engine.put_manifest(current.id, successor)

    def _swap(self, current: KnowledgeBase, pointer: Pointer, plan: Plan, operation_id: str, staging: Staging | None, holder: bool) -> Any:
        now = self._storage.now()
        effect = plan(current, pointer.generation, now)
        after = _after(current, pointer, effect, operation_id, now)
        writes: list[Write] = [_move(current, after, effect.model, holder)]
        if staging:
            writes.append(staging.ending())
        writes.append(Insert(OPERATIONS, row_of(self._record(after, effect, now))))
        writes += [_tombstone(current, burial, pointer.generation) for burial in effect.burials]
        writes += effect.writes
        failpoint("commit.before")
        self._settled_commit(current, writes, effect, operation_id)
        failpoint("commit.after")
        return effect.result

    def _record(self, after: KnowledgeBase, effect: Effect, now: datetime) -> KnowledgeOperation:
        return operation_record(
            after,
            self._operation,
            effect.kind,
            now,
            documents_delta=effect.documents_delta,
            chunks_delta=effect.chunks_delta,
            details=effect.details,
        )

    def _settled_commit(self, base: KnowledgeBase, writes: Sequence[Write], effect: Effect, operation_id: str) -> None:
        """Commit; when the answer is lost, look for the operation's row instead of guessing (RELIABILITY.md B3)."""
        try:
            with self._timed("database"):
                self._commit(base.tenant_id, writes, effect.result, "write", base.id)
        except AlreadyExists as error:
            if error.table == OPERATIONS.name:
                raise OperationRepeated from error
            raise
        except OutcomeUnknown:
            if self._storage.get(OPERATIONS, base.tenant_id, f"{base.id}.{operation_id}") is None:
                self.engine.observer.count("kb_commit", result="unknown")
                raise
        self.engine.observer.count("kb_commit", result="committed")

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.engine.observer.time("kb_commit", time.monotonic() - started, phase=phase)

    def _lost(self, current: KnowledgeBase, pointer: Pointer, staging: Staging | None, error: Exception) -> None:
        """A refused commit: drop its manifest, and go on only where another try can succeed."""
        if pointer.name != current.manifest_name:
            self.engine.discard_manifest(current.id, pointer)
        latest = self._bases.get(current.tenant_id, current.id)
        if latest.pointer != current.pointer:
            return
        if staging and self._storage.get(INTENTS, current.tenant_id, staging.intent_id) is None:
            self.engine.observer.count("kb_commit", result="conflict")
            raise GenerationConflict("this write took too long and was given up; try again", retry_after_seconds=1) from error
        if isinstance(error, NotFound):
            raise error


def _overtaken(commit_seconds: float) -> GenerationConflict:
    """What a writer is told whom others overtook again and again: where commits are slow, that there are too many."""
    if commit_seconds == 0:
        return GenerationConflict("other writers of this knowledge base were faster; try again", retry_after_seconds=1)
    rate = f"this knowledge base takes about {60 / commit_seconds:.0f} commits a minute here"
    return TooManyCommits(f"{rate}, and other writers were faster", retry_after_seconds=_ATTEMPTS * commit_seconds)


def _after(current: KnowledgeBase, pointer: Pointer, effect: Effect, operation_id: str, now: datetime) -> KnowledgeBase:
    return replace(
        current.pointing_to(pointer, operation_id, now),
        document_count=current.document_count + effect.documents_delta,
        chunk_count=current.chunk_count + effect.chunks_delta,
        size_bytes=current.size_bytes + effect.size_delta_bytes,
    )


def _move(current: KnowledgeBase, after: KnowledgeBase, model: PinnedModel | None, holder: bool) -> Update:
    """The compare-and-set from the pointer that was read to the next one. The holder lets go with it."""
    changes: dict[str, Any] = {name: getattr(after, name) for name in _MOVING}
    changes |= {} if model is None else asdict(model)
    changes |= {"held_until": None} if holder else {}
    unmoved: tuple[Filter, ...] = (
        Compare("state", "eq", "active"),
        Compare("generation", "eq", current.generation),
        Compare("epoch", "eq", current.epoch),
        Compare("manifest_sha256", "eq", current.manifest_sha256),
    )
    where = And(unmoved if holder else (*unmoved, _UNHELD))
    return Update(KnowledgeBaseRepository.table, current.tenant_id, current.id, changes, None, where)


def _tombstone(base: KnowledgeBase, burial: Burial, generation: int) -> Insert:
    key = f"{base.id}.{generation}.{burial.kind}.{burial.target_id}"
    row = TombstoneRow(key, base.tenant_id, base.id, burial.kind, burial.target_id, generation)
    return Insert(TOMBSTONES, row_of(row))
