"""Going back: a new generation with the contents of an old one. What came after stays in the history, so this can be undone too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import Conflict
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.repositories.knowledge.commits import Effect, KnowledgeCommits, Plan
from agenthub.repositories.knowledge.documents import DocumentRepository
from agenthub.repositories.knowledge.history import DocumentChange, History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.retention import GenerationRepository
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Storage, Write

MAX_DOCUMENTS: Final = 2000
"""How many documents one restore can change: two writes each, all in one commit of at most 4,096."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: `generation` is new and has the contents of `restored_generation`."""

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

    def restore(self, base: KnowledgeBase, generation: int, answer: RestoredAnswer) -> Any:
        """Make a new generation with the contents of an old one: documents, chunks and counts. Nothing is copied or embedded.

        What is committed meanwhile is in the history like everything after the restored generation.
        Raises: NotFound and NotRetained as `History.get`; Conflict when it is the current one, or more than 2,000 documents differ.
        """
        return self._publish(base, generation, None, answer)

    def undo(self, base: KnowledgeBase, answer: RestoredAnswer) -> Any:
        """Restore the generation before the newest change; merges don't count. To undo an undo is to redo.

        Raises: Conflict when nothing was changed yet, or something is changed meanwhile; otherwise as `restore`.
        """
        newest = GenerationRepository(self._storage).newest_change(base)
        if newest is None or newest.generation == 1:
            raise Conflict("there is no change to undo")
        return self._publish(base, newest.generation - 1, newest.generation, answer)

    def _publish(self, base: KnowledgeBase, generation: int, undone: int | None, answer: RestoredAnswer) -> Any:
        self._wanted(base, generation, undone)
        commits = KnowledgeCommits(self._storage, self._engine, self._operation)

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
        return self._history.at(base, generation)

    def _plan(self, generation: int, undone: int | None, answer: RestoredAnswer) -> Plan:
        def plan(current: KnowledgeBase, made: int, now: datetime) -> Effect:
            old = self._wanted(current, generation, undone)
            changes = self._changes(current, generation)
            audit = self._operation.audit(
                current.tenant_id, "knowledge_base.restore", "knowledge_base", current.id, now, restored_generation=generation
            )
            return Effect(
                answer(Restored(made, generation, len(changes), old.document_count, old.chunk_count)),
                "restore",
                writes=(*(write for change in changes for write in self._writes(change, made, now)), audit),
                documents_delta=old.document_count - current.document_count,
                chunks_delta=old.chunk_count - current.chunk_count,
                size_delta_bytes=old.size_bytes - current.size_bytes,
                details={"restored_generation": generation, "documents_changed": len(changes)},
            )

        return plan

    def _changes(self, current: KnowledgeBase, generation: int) -> Sequence[DocumentChange]:
        """What has to become of documents: `before` is wanted, `after` is what there is."""
        changes: list[DocumentChange] = []
        for change in self._history.changes(current, generation, current.generation):
            changes.append(change)
            if len(changes) > MAX_DOCUMENTS:
                raise Conflict(f"more than {MAX_DOCUMENTS} documents differ; export that generation and import it as a new knowledge base")
        return changes

    def _writes(self, change: DocumentChange, made: int, now: datetime) -> list[Write]:
        wanted, present = change.before, change.after
        if wanted is None:
            assert present is not None
            return self._documents.removal(present, made)
        version = wanted.version if present is None else present.version
        revision = wanted.revision if present is None else present.revision
        restored = replace(wanted, generation=made, revision=revision + 1, updated_at=now, version=version + 1)
        return [self._documents.insertion(restored)] if present is None else self._documents.replacement(present, restored)
