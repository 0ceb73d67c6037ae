"""Going back: a new generation with the contents of an old one. What came after stays in the history, so this can be undone too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from agenthub.core.errors import Conflict
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.repositories.knowledge.commits import Effect, KnowledgeCommits, PinnedModel, Plan
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.history import DocumentChange, History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.reembeddings import ReembeddingRepository, drafted
from agenthub.repositories.knowledge.retention import GenerationRepository
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import MAX_WRITES, Insert, Storage, Write

MAX_DOCUMENTS: Final = 2000
"""How many documents one generation can change: two writes each, all in one commit of at most 4,096."""
MAX_STEPS: Final = 50
"""Over how many generations in between a restore goes at most."""
_OTHER_WRITES: Final = 16
_ADVICE: Final = "export that generation and import it as a new knowledge base"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: `generation` is new and has the contents of `restored_generation`.

    `documents_changed` counts all of its steps.
    """

    generation: int
    restored_generation: int
    documents_changed: int
    document_count: int
    chunk_count: int


RestoredAnswer = Callable[[Restored], object]
"""Makes the request's answer of what was restored."""


class Restores:
    """Brings old generations back."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation | None = None) -> None:
        self._storage = storage
        self._engine = engine
        self._operation = operation or Operation()
        self._documents = DocumentRepository(storage, self._operation)
        self._history = History(storage)
        self._bases = KnowledgeBaseRepository(storage)
        self._reembeddings = ReembeddingRepository(storage)

    def restore(self, base: KnowledgeBase, generation: int, answer: RestoredAnswer) -> Any:
        """Make a new generation with the contents of an old one: documents, chunks, counts and model. Nothing is copied or embedded.

        Where more than 2,000 documents differ it goes back in steps, over generations that lie between: each step is a restore of its own,
        whole or not at all, and a repeat goes on where one broke off. What is committed meanwhile is in the history like everything after
        the restored generation.
        Raises: NotFound and NotRetained as `History.get`; Conflict when it is the current one, when a single generation changed more than
        2,000 documents, when it would take more than 50 steps, or when it is in another model while one is being re-embedded into.
        """
        changed = 0
        for step in self._steps(base, generation):
            changed += self._publish(base, step, None, attrgetter("documents_changed"), Operation(self._operation.actor))
            base = self._bases.get(base.tenant_id, base.id)
        return self._publish(base, generation, None, lambda made: answer(replace(made, documents_changed=made.documents_changed + changed)))

    def _steps(self, base: KnowledgeBase, generation: int) -> list[int]:
        """The generations to go over, newest first: between two of them at most 2,000 documents were touched. Mostly none."""
        self._wanted(base, generation, None)
        if self._history.touched_at_most(base, generation, MAX_DOCUMENTS):
            return []
        touched, restored = self._history.touched(base, generation), self._history.restored(base, generation)
        steps: list[int] = []
        documents: set[str] = set()
        place = base.generation
        while place > generation:
            if restored.get(place, 0) >= generation:
                place = restored[place]  # the same contents, nearer to where it goes: a restore that broke off goes on from there
                continue
            if documents and len(documents | touched.get(place, set())) > MAX_DOCUMENTS:
                steps.append(place)
                documents = set()
            documents |= touched.get(place, set())
            place -= 1
        if len(steps) >= MAX_STEPS:
            raise Conflict(f"more than {MAX_STEPS * MAX_DOCUMENTS} documents differ; {_ADVICE}")
        return steps

    def undo(self, base: KnowledgeBase, answer: RestoredAnswer) -> Any:
        """Restore the generation before the newest change; merges don't count. To undo an undo is to redo.

        Raises: Conflict when nothing was changed yet, when the model was changed since, or something is changed meanwhile; otherwise as
        `restore`.
        """
        newest = GenerationRepository(self._storage).newest_change(base)
        if newest is None or newest.generation == 1:
            raise Conflict("there is no change to undo")
        return self._publish(base, newest.generation - 1, newest.generation, answer)

    def _publish(
        self, base: KnowledgeBase, generation: int, undone: int | None, answer: RestoredAnswer, operation: Operation | None = None
    ) -> Any:
        self._wanted(base, generation, undone)
        commits = KnowledgeCommits(self._storage, self._engine, operation or self._operation)

        def revision(manifest: Manifest) -> Manifest:
            old = self._history.get(base.tenant_id, base.id, generation)
            return manifest.restoring(self._engine.read_manifest(base.id, old.pointer))

        # The intent ends a restore that takes longer than files are safe from the collector.
        with commits.staging(base) as staging:
            return commits.publish(base, (), self._plan(generation, undone, answer), staging, revision)

    def _wanted(self, base: KnowledgeBase, generation: int, undone: int | None) -> KnowledgeBase:
        """The row as it was in the generation to restore.

        Raises: Conflict when this is not (any more) what the caller wants.
        """
        if generation == base.generation:
            raise Conflict(f"generation {generation} is the current one", field="generation")
        if undone is not None:
            newest = GenerationRepository(self._storage).newest_change(base)
            if newest is None or newest.generation != undone:
                raise Conflict("the knowledge base was changed meanwhile; look at its newest change and try again")
        old = self._history.at(base, generation)
        if old.signature != base.signature:
            self._check_model_change(base, undone)
        return old

    def _check_model_change(self, base: KnowledgeBase, undone: int | None) -> None:
        if undone is not None:
            raise Conflict("the model was changed since the newest change: roll that back first, or restore a generation")
        if self._reembeddings.is_open(base):
            raise Conflict("that generation is in another model, and the knowledge base is being re-embedded: cancel that first")

    def _plan(self, generation: int, undone: int | None, answer: RestoredAnswer) -> Plan:
        def plan(current: KnowledgeBase, made: int, now: datetime) -> Effect:
            old = self._wanted(current, generation, undone)
            changes, other_model = self._changes(current, generation), old.signature != current.signature
            audit = self._operation.audit(
                current.tenant_id, "knowledge_base.restore", "knowledge_base", current.id, now, restored_generation=generation
            )
            return Effect(
                answer(Restored(made, generation, len(changes), old.document_count, old.chunk_count)),
                "restore",
                writes=(*self._every_write(changes, made, now), *self._model_change(current, old, made, now), audit),
                documents_delta=old.document_count - current.document_count,
                chunks_delta=old.chunk_count - current.chunk_count,
                size_delta_bytes=old.size_bytes - current.size_bytes,
                details={"restored_generation": generation, "documents_changed": len(changes)},
                model=PinnedModel(str(old.embedding_model), old.signature, old.dimension) if other_model else None,
            )

        return plan

    def _model_change(self, current: KnowledgeBase, old: KnowledgeBase, made: int, now: datetime) -> list[Write]:
        """The record that says which generations are in which model, where this restore changes it."""
        if old.signature == current.signature:
            return []
        row = drafted(current, moved_to=old, state="finished", now=now, created_by=self._operation.actor.id or "")
        return [Insert(ReembeddingRepository.table, row_of(replace(row, switched_generation=made)))]

    def _changes(self, current: KnowledgeBase, generation: int) -> Sequence[DocumentChange]:
        """What has to become of documents: `before` is wanted, `after` is what there is."""
        changes: list[DocumentChange] = []
        for change in self._history.changes(current, generation, current.generation):
            changes.append(change)
            if len(changes) > MAX_DOCUMENTS:
                raise Conflict(f"more than {MAX_DOCUMENTS} documents differ; {_ADVICE}")
        return changes

    def _every_write(self, changes: Sequence[DocumentChange], made: int, now: datetime) -> list[Write]:
        """Removals first; then what has a content or source that another document gets gives it up before that one gets it."""
        removed = [change.after for change in changes if change.before is None and change.after is not None]
        writes = [write for document in removed for write in self._documents.removal(document, made)]
        wanted_by = {key: wanted.id for change in changes if (wanted := change.before) for key in _keys(wanted)}
        later: list[Write] = []
        for change in changes:
            if change.before is not None:
                free = change.after is not None and any(
                    wanted_by.get(key, change.after.id) != change.after.id for key in _keys(change.after)
                )
                mine = self._writes(change.before, change.after, made, now, free_first=free)
                writes += mine[:1] if free else []
                later += mine[1:] if free else mine
        writes += later
        if len(writes) > MAX_WRITES - _OTHER_WRITES:
            raise Conflict(f"too many documents exchanged their contents; {_ADVICE}")
        return writes

    def _writes(self, wanted: Document, present: Document | None, made: int, now: datetime, *, free_first: bool) -> list[Write]:
        version = wanted.version if present is None else present.version + free_first
        revision = wanted.revision if present is None else present.revision
        restored = replace(wanted, generation=made, revision=revision + 1, updated_at=now, version=version + 1)
        if present is None:
            return [self._documents.insertion(restored)]
        return self._documents.replacement(present, restored, free_first=free_first)


def _keys(document: Document) -> tuple[str, ...]:
    """What no two documents of a knowledge base may share."""
    keys = (("content", document.content_key), ("source", document.source))
    return tuple(f"{kind} {value}" for kind, value in keys if value is not None)
