"""Warming: what was busiest before a start is ready before it is asked for, behind the requests and within bounds.

A process starts with nothing opened: the first search of a knowledge base reads its row, verifies and opens its segments and loads
the model, while somebody waits. Warming does that for the busiest knowledge bases, and puts the vectors of their most
frequent questions back into the embedding cache. Nothing depends on it: it may fail, be stopped or be switched off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np

from agenthub.core.errors import AgentHubError
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.searcher import SearchRequest
from agenthub.repositories.knowledge.heat import MAX_QUESTIONS, Heat, HeatRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.search_notes import SearchNotes
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.storage.contract import Storage

MAX_BASES: Final = 16
MAX_SECONDS: Final = 60.0
BYTES_SHARE: Final = 0.5
"""Of the memory for opened segments; the rest is for what is asked for meanwhile."""
_RECORDED_BASES: Final = 8

_log = logging.getLogger("agenthub.warming")


@dataclass(frozen=True, slots=True)
class Warmed:
    """What one warming did. `ended`: `done`, or what stopped it before the last knowledge base."""

    knowledge_bases: int = 0
    opened_bytes: int = 0
    embeddings: int = 0
    failures: int = 0
    seconds: float = 0.0
    ended: Literal["done", "time", "stopped"] = "done"


class Warming:
    """Warms one process, and records what it was asked for."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine, embedders: EmbedderCatalog, budget_bytes: int) -> None:
        self._storage = storage
        self._engine = engine
        self._embedders = embedders
        self._budget_bytes = budget_bytes
        self._bases = KnowledgeBaseRepository(storage)
        self._heats = HeatRepository(storage)
        self.notes = SearchNotes()

    def now(self) -> datetime:
        """The database's clock, by which what was seen is compared with erasures."""
        return self._storage.now()

    def warm(self, stopped: Callable[[], bool]) -> Warmed:
        """Warm the busiest knowledge bases, busiest first, at most 16, a minute and half the memory for segments.

        Raises: StorageUnavailable when the record can't be read. What fails for one knowledge base is counted, not raised.
        """
        started = time.monotonic()
        run = _Run(self._budget_bytes)
        ended: Literal["done", "time", "stopped"] = "done"
        for heat in self._heats.busiest(MAX_BASES):
            if stopped():
                ended = "stopped"
            elif time.monotonic() - started > MAX_SECONDS:
                ended = "time"
            if ended != "done":
                break
            self._warm_one(heat, run)
        return Warmed(run.knowledge_bases, run.opened_bytes, run.embeddings, run.failures, time.monotonic() - started, ended)

    def record(self, since: datetime) -> None:
        """Add what this process was asked for after `since` to the record: the busiest eight, the rest is dropped.

        Raises: StorageUnavailable.
        """
        for noted in self.notes.take()[:_RECORDED_BASES]:
            base = noted.base
            texts = [text for text, _ in noted.questions.most(MAX_QUESTIONS)]
            vectors = self._embedders.recall(base.embedding_model, texts) if base.embedding_model is not None and texts else {}
            self._heats.add_searches(base, noted.count, vectors, since)

    def _warm_one(self, heat: Heat, run: _Run) -> None:
        try:
            base = self._bases.find(heat.tenant_id, heat.id)
            if base is None:
                return
            run.embeddings += self._warm_embeddings(base, heat)
            self._warm_segments(base, heat, run)
            run.knowledge_bases += 1
        except AgentHubError as error:
            run.failures += 1
            _log.warning("warming knowledge base %s: %s", heat.id, error.message)

    def _warm_embeddings(self, base: KnowledgeBase, heat: Heat) -> int:
        """Load the model, and put the vectors of the frequent questions back, unless an erase comes between."""
        if base.embedding_model is None:
            return 0
        self._embedders.load(base.embedding_model)
        if not heat.vectors or heat.signature != base.signature:
            return 0
        self._embedders.restore(base.embedding_model, heat.vectors)
        now = self._heats.find(heat.tenant_id, heat.id)
        if now is None or now.cleared_at != heat.cleared_at:
            self._embedders.withdraw(base.embedding_model, list(heat.vectors))
            return 0
        return len(heat.vectors)

    def _warm_segments(self, base: KnowledgeBase, heat: Heat, run: _Run) -> None:
        """Open the segments if there is room for them, and ask them something, so that what is made at the first search is there."""
        size_bytes = sum(entry.size_bytes for entry in self._engine.read_manifest(base.id, base.pointer).segments)
        if size_bytes > run.left_bytes:
            return
        run.left_bytes -= size_bytes
        run.opened_bytes += size_bytes
        searcher = Snapshots(self._storage, self._engine).at(base)
        first = next((np.frombuffer(vector, "<f4") for vector in heat.vectors.values() if len(vector) == 4 * base.dimension), None)
        vector = first if first is not None else np.eye(1, base.dimension, dtype=np.float32)[0]
        searcher.search([SearchRequest(base.name, vector, "hybrid", 10, verbatim=True)])


@dataclass
class _Run:
    """One warming under way."""

    left_bytes: int
    knowledge_bases: int = 0
    opened_bytes: int = 0
    embeddings: int = 0
    failures: int = 0
