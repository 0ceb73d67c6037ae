"""What people do with re-embeddings: estimate, start, switch, go back, finish, give up, and compare before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from agenthub.core.errors import AlreadyExists, Conflict, NotFound
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.embedding.contract import Embedder
from agenthub.rag.engine import KnowledgeEngine
from agenthub.repositories.base import audit_action
from agenthub.repositories.knowledge.job_requests import JobRequests
from agenthub.repositories.knowledge.jobs import OPEN, Job, JobRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.ledger import PINS
from agenthub.repositories.knowledge.models import embedder_of
from agenthub.repositories.knowledge.reembeddings import MIRRORS, OPEN_STATES, Reembedding, ReembeddingRepository, drafted, mirrors_of
from agenthub.repositories.knowledge.shadows import gaps_of
from agenthub.repositories.knowledge.submitting import Submissions
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import Compare, Delete, DeleteWhere, Insert, Storage, Update, Write

KIND: Final = "reembed"
_SAMPLE_CHUNKS: Final = 2000
"""Chunks that an estimate reads."""
_TIMED_TEXTS: Final = 16
_CHARACTERS_A_TOKEN: Final = 4
_COPIES: Final = 2
"""How often a segment has its vectors: the truth and the index."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a re-embedding would take. Tokens are four characters each; `disk_bytes` is the shadow's; `rate` is chunks a second."""

    embedding_model: str
    dimension: int
    chunks: int
    characters: int
    tokens: int
    rate: float
    seconds: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A re-embedding and how far it is. `missing_chunks` None: it is over. `stalled`: its job ended before it was done."""

    row: Reembedding
    missing_chunks: int | None
    stalled: bool


Answer = Callable[[Standing], Any]
"""Makes the request's answer."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants started. `rolls_back_id` is the re-embedding that it takes back."""

    embedding_model: str
    auto_switch: bool
    chunks_per_second: int | None
    rolls_back_id: str | None = None


class ReembeddingRequests:
    """The re-embeddings of one knowledge base, for one request."""

    def __init__(
        self, storage: Storage, engine: KnowledgeEngine, embedders: EmbedderCatalog, operation: Operation, base: KnowledgeBase
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._embedders = embedders
        self._operation = operation
        self._base = base
        self._rows = ReembeddingRepository(storage, operation)

    def estimate(self, embedding_model: str) -> Estimate:
        """What it would take; a few chunks are embedded for it, and nothing of the knowledge base is written.

        Raises: InvalidInput for a model that isn't there; Conflict where it makes no sense; ProviderFailure.
        """
        base, embedder = self._base, self._target(embedding_model)
        manifest = self._engine.read_manifest(base.id, base.pointer)
        chunks = (chunk for entry in manifest.segments for chunk in self._engine.segments.chunks(base.id, entry))
        texts = [chunk.searched_text for chunk in islice(chunks, _SAMPLE_CHUNKS)]
        characters = round(sum(map(len, texts)) / max(1, len(texts)) * base.chunk_count)
        rate = _rate(embedder, texts[:: max(1, len(texts) // _TIMED_TEXTS)][:_TIMED_TEXTS])
        rows, size = sum(entry.chunk_count for entry in manifest.segments), sum(entry.size_bytes for entry in manifest.segments)
        others = max(0, size - _COPIES * 4 * base.dimension * rows)
        dimension = embedder.signature.dimension
        disk = round((others + _COPIES * 4 * dimension * rows) * base.chunk_count / max(1, rows))
        tokens = characters // _CHARACTERS_A_TOKEN
        seconds = base.chunk_count / rate if rate else 0.0
        return Estimate(embedding_model, dimension, base.chunk_count, characters, tokens, rate, seconds, disk)

    def start(self, wish: Wish, created_by: str, answer: Answer) -> Standing:
        """Begin to build a shadow in another model.

        Raises: InvalidInput for a model that isn't there; Conflict where one is under way already or it makes no sense; as `submit`.
        """
        embedder, base = self._target(wish.embedding_model), self._base
        signature = embedder.signature
        there = replace(base, embedding_model=wish.embedding_model, signature=signature.text, dimension=signature.dimension)
        draft = replace(
            drafted(base, moved_to=there, state="building", now=self._rows.now(), created_by=created_by),
            auto_switch=wish.auto_switch,
            chunks_per_second=wish.chunks_per_second,
            rolls_back_id=wish.rolls_back_id,
        )

        def standing(job: Job) -> Standing:
            return Standing(replace(draft, job_id=job.id), base.chunk_count, False)

        def writes(job: Job) -> list[Write]:
            return [Insert(self._rows.table, row_of(standing(job).row)), self._audit("create", draft.id, wish.embedding_model)]

        try:
            made = self._submit(draft.id, created_by, lambda job: answer(standing(job)), writes)
        except AlreadyExists as error:
            if "open_key" in error.columns:
                raise Conflict("this knowledge base is being re-embedded already") from error
            raise
        return standing(made)

    def switch(self, created_by: str, answer: Answer) -> Standing:
        """Let a shadow that is ready catch up and take the place of the current generation.

        Raises: NotFound; Conflict when none is ready.
        """
        row = self._rows.newest_in(self._base, "ready")
        embedder_of(self._embedders, row.embedding_model, row.signature)
        missing, ready = self._missing(row), Compare("state", "eq", "ready")

        def switching(job: Job) -> Standing:
            return Standing(replace(row, state="building", auto_switch=True, job_id=job.id), missing, False)

        def writes(job: Job) -> list[Write]:
            changes = {"state": "building", "auto_switch": True, "job_id": job.id, "updated_at": self._rows.now()}
            moving = Update(self._rows.table, row.tenant_id, row.id, changes, row.version, ready)
            return [moving, self._audit("switch", row.id, row.embedding_model)]

        return switching(self._submit(row.id, created_by, lambda job: answer(switching(job)), writes))

    def roll_back(self, created_by: str, answer: Answer) -> Standing:
        """Go back to the model that was left: what was written since is embedded with it, everything else has its vectors still.

        Raises: NotFound; Conflict when the newest re-embedding wasn't switched, or its old vectors were given up.
        """
        row = self._rows.newest_in(self._base, "switched")
        embedder_of(self._embedders, row.former_model, row.former_signature)
        return self.start(Wish(row.former_model, True, row.chunks_per_second, row.id), created_by, answer)

    def finish(self) -> Reembedding:
        """Give up the vectors of the model that was left; they are collected.

        Raises: NotFound; Conflict when the newest re-embedding wasn't switched.
        """
        row = self._rows.newest_in(self._base, "switched")
        pins = [Delete(PINS, row.tenant_id, row.pin_id, missing_ok=True)] if row.pin_id else []
        changes = {"state": "finished", "pin_id": None, "updated_at": self._rows.now()}
        return self._rows.update(row.tenant_id, row.id, changes, *pins, expected_version=row.version, verb="finish")

    def cancel(self) -> Reembedding:
        """Give a shadow up and remove its files.

        Raises: NotFound; Conflict when it was switched to, or ended.
        """
        row = self._rows.newest_in(self._base, *OPEN_STATES)
        doomed = mirrors_of(self._storage, self._base, row.id)
        gone = DeleteWhere(MIRRORS, row.tenant_id, Compare("reembedding_id", "eq", row.id))
        changes = {"state": "cancelled", "open_key": None, "updated_at": self._rows.now()}
        is_open = Compare("state", "in", OPEN_STATES)
        made = self._rows.update(row.tenant_id, row.id, changes, gone, where=is_open, verb="cancel")
        failpoint("reembed.cancelled")
        with suppress(Conflict, NotFound):  # it ended by itself
            JobRequests(self._storage).cancel(row.tenant_id, row.job_id)
        for mirror in doomed:  # nobody can list them any more; what can't be removed now is collected
            if mirror.segment_id:
                self._engine.discard_segment(self._base.id, mirror.entry)
        return made

    def _target(self, embedding_model: str) -> Embedder:
        if not self._engine.segments.shadows:
            raise Conflict("chunks and vectors are in Milvus, where a knowledge base keeps its dimension: upload its documents to another")
        if self._base.embedding_model is None:
            raise Conflict("this knowledge base has no embedding model: its vectors come from the client")
        embedder = self._embedders.get(embedding_model)
        if embedder.signature.text == self._base.signature:
            raise Conflict("this knowledge base is in this model already", field="embedding_model")
        return embedder

    def standing(self, row: Reembedding | None = None) -> Standing:
        """How far this one is, or the newest one.

        Raises: NotFound when there was none.
        """
        row = row or self._rows.newest(self._base)
        if row.state not in OPEN_STATES:
            return Standing(row, None, False)
        job = JobRepository(self._storage).find(row.tenant_id, row.job_id)
        return Standing(row, self._missing(row), row.state == "building" and (job is None or job.status not in OPEN))

    def _missing(self, row: Reembedding) -> int:
        manifest = self._engine.read_manifest(self._base.id, self._base.pointer)
        return sum(gap.count for gap in gaps_of(manifest, mirrors_of(self._storage, self._base, row.id)))

    def _audit(self, verb: str, key: str, embedding_model: str) -> Write:
        base, kind = self._base, self._rows.resource_kind
        said = {"knowledge_base_id": base.id, "embedding_model": embedding_model}
        return self._operation.audit(base.tenant_id, audit_action(kind, verb), kind, key, self._rows.now(), **said)

    def _submit(self, key: str, created_by: str, answer: Callable[[Job], Any], writes: Callable[[Job], Sequence[Write]]) -> Job:
        arguments = {"reembedding_id": key}
        submissions = Submissions(self._storage, self._engine, self._operation)
        return submissions.submit(self._base, KIND, (), created_by, answer, arguments, unfinished=True, beside=writes).job


def _rate(embedder: Embedder, texts: Sequence[str]) -> float:
    """Chunks a second, measured with texts that no cache knows; 0 without any."""
    if not texts:
        return 0.0
    fresh = [f"{text} {random_name()}" for text in texts]
    embedder.embed([random_name()])  # a model of this machine is loaded first
    started = time.monotonic()
    embedder.embed(fresh, background=True)
    return len(fresh) / max(1e-6, time.monotonic() - started)
