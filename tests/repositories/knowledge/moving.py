"""Models of small dimensions, and moves of a knowledge base between them over the real repositories and the real handler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from agenthub.core.errors import InvalidInput
from agenthub.jobs.contract import Bench, Deadline
from agenthub.jobs.reembedding import ReembedHandler
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.embedding.contract import ModelSignature
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.vectors import Vectors, unit_vectors
from agenthub.repositories.knowledge.job_queue import JobQueue, Leased
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.reembedding_requests import ReembeddingRequests, Standing, Wish
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import Storage
from tests.repositories.knowledge.world import TENANT, World, signature_of, vector_of


@dataclass
class Model:
    """Gives each text the vector that the world gives it, in its dimension. `before` is called ahead of every batch."""

    model: str
    dimension: int
    embedded: list[str] = field(default_factory=list)
    before: Any = None

    @property
    def signature(self) -> ModelSignature:
        return signature_of(self.model, self.dimension)

    def embed(self, texts: Sequence[str], *, background: bool = False) -> Vectors:
        del background
        if self.before is not None:
            self.before(texts)
        self.embedded += texts
        return unit_vectors(np.stack([vector_of(text, self.dimension) for text in texts]))


class Models:
    """Implements what is asked of `EmbedderCatalog`: the models `four` and `three`, of these dimensions."""

    def __init__(self) -> None:
        self.four, self.three = Model("four", 4), Model("three", 3)

    def get(self, model: str) -> Model:
        if model not in ("four", "three"):
            raise InvalidInput("no such model", field="embedding_model")
        found: Model = getattr(self, model)
        return found


class Mover:
    """Asks for moves of one world's knowledge base, and does what a runner would."""

    def __init__(self, world: World, storage: Storage | None = None, engine: KnowledgeEngine | None = None) -> None:
        self.world = world
        self.storage = storage or world.storage
        self.engine = engine or world.engine
        self.models = Models()
        self.queue = JobQueue(self.storage, 3600)
        upkeep = SimpleNamespace(notice=lambda _: None)
        observer = SimpleNamespace(count=lambda *_, **__: None)
        self.resources: Any = SimpleNamespace(
            storage=self.storage, knowledge=self.engine, embedders=self.models, upkeep=upkeep, observer=observer
        )

    @property
    def requests(self) -> ReembeddingRequests:
        base = KnowledgeBaseRepository(self.storage).get(TENANT, self.world.base_id)
        return ReembeddingRequests(self.storage, self.engine, cast("EmbedderCatalog", self.models), Operation(), base)

    def start(self, model: str, *, auto_switch: bool = False) -> Standing:
        return self.requests.start(Wish(model, auto_switch, None), "user", lambda _: None)

    def switch(self) -> Standing:
        return self.requests.switch("user", lambda _: None)

    def roll_back(self) -> Standing:
        return self.requests.roll_back("user", lambda _: None)

    def take(self) -> list[Leased]:
        return self.queue.take({"reembed": 1})

    def work(self, seconds: float = 1000.0) -> bool:
        """Run a slice of the job whose turn it is; False when there is none. The lease is given back, whatever happens."""
        leases = self.take()
        complete: frozenset[str] = frozenset()
        try:
            if leases:
                complete = ReembedHandler(Bench(self.resources, self.queue)).run_slice(leases, Deadline(seconds))
        finally:
            for leased in leases:
                (self.queue.finish if leased.job.id in complete else self.queue.release)(leased, 0.0)
        return bool(leases)

    def work_off(self) -> None:
        while self.work():
            pass
