"""Upkeep: finishing erasures, merging, pruning and collecting, one maintainer per knowledge base at a time.

Nothing that was acknowledged depends on it. A server does it in one thread of each process, after commits that call for it;
`python -m agenthub.cli kb maintain` does the same for all knowledge bases, for a scheduler.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from agenthub.core.errors import AgentHubError, NotFound, RateLimited
from agenthub.core.observe import Observer, Unobserved
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.engine import KnowledgeEngine
from agenthub.repositories.knowledge.collecting import Collected, Collector, Grace
from agenthub.repositories.knowledge.erasing import ErasureRepository
from agenthub.repositories.knowledge.expunging import Expunger, ForgetTexts
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import Lease, Leases
from agenthub.repositories.knowledge.merging import MOST_ROUNDS, Merged, Merges
from agenthub.repositories.knowledge.pruning import Pruned, Pruner
from agenthub.storage.contract import MAX_PAGE, Query, Storage

BUSY_SEGMENTS: Final = 100
"""With so many segments writers have to wait for merging."""
_BUSY_SECONDS: Final = 2.0
_REST_SECONDS: Final = 600.0
_COLLECT_SECONDS: Final = 600.0
_CLOSING_SECONDS: Final = 5.0
_log = logging.getLogger("agenthub.upkeep")


@dataclass
class Done:
    """What was done for one knowledge base."""

    merged: list[Merged] = field(default_factory=list)
    erased: int = 0
    waiting: int = 0
    pruned: Pruned | None = None
    collected: Collected | None = None


class Upkeep:
    """The steps of upkeep, each of which takes the lease, or does nothing while another has it."""

    def __init__(
        self,
        storage: Storage,
        engine: KnowledgeEngine,
        forget_texts: ForgetTexts,
        grace: Grace | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.storage = storage
        self._engine = engine
        self._grace = grace or Grace()
        self._observer: Observer = observer or Unobserved()
        self._bases = KnowledgeBaseRepository(storage)
        self._merges = Merges(storage, engine)
        self._leases = Leases(storage)
        self._expunger = Expunger(storage, engine, forget_texts, self._grace)

    def admit(self, base: KnowledgeBase) -> None:
        """Let a writer of new segments pass, unless merging has to catch up first.

        Raises: RateLimited.
        """
        if len(self._engine.read_manifest(base.id, base.pointer).segments) >= BUSY_SEGMENTS:
            raise RateLimited("so many small writes are being merged; try again", retry_after_seconds=_BUSY_SECONDS)

    def merge(self, base: KnowledgeBase, *, at_rest: bool = False) -> list[Merged]:
        """Merge until the plan wants no more, `at_rest` as if nobody were going to write; empty while another maintainer is at it."""
        if not self._merges.due(base, at_rest=at_rest):
            return []
        with self._leases.taken(base) as lease:
            return self._merged(base, lease, at_rest) if lease else []

    def rests(self, base: KnowledgeBase) -> bool:
        """Whether nobody wrote to it for a while."""
        return (self.storage.now() - base.updated_at).total_seconds() >= _REST_SECONDS

    def erase(self, base: KnowledgeBase) -> tuple[int, int]:
        """Finish what erasures asked for: how many are done, and how many have to wait."""
        waiting = ErasureRepository(self.storage).unfinished(base.tenant_id, base.id)
        if not waiting:
            return 0, 0
        with self._leases.taken(base) as lease:
            done = sum(self._expunger.finish(base, erasure) for erasure in waiting) if lease else 0
        self._observer.count("kb_erasures", done)
        return done, len(waiting) - done

    def collect(self, kb_id: str) -> Collected:
        """Collect the files of a knowledge base, deleted ones and nobody's included."""
        collected = Collector(self.storage, self._engine, self._grace).collect(kb_id)
        self._observer.count("kb_collected_files", collected.removed)
        return collected

    def prune(self, base: KnowledgeBase) -> Pruned:
        """Remove rows that no held generation needs."""
        return Pruner(self.storage, self._engine, self._grace.dereferenced_seconds).prune(base)

    def maintain(self, kb_id: str) -> Done:
        """Everything that is due for one knowledge base.

        Raises: CorruptFile or MissingFile naming what is damaged; VolumeFull; VolumeUnavailable.
        """
        done = Done()
        base = self._bases.find(EVERY_TENANT, kb_id)
        if base is not None:
            done.erased, done.waiting = self.erase(base)
            latest = self._bases.get(EVERY_TENANT, kb_id)
            done.merged = self.merge(latest, at_rest=self.rests(latest))
            done.pruned = self.prune(self._bases.get(EVERY_TENANT, kb_id))
        done.collected = self.collect(kb_id)
        return done

    def all_ids(self) -> Iterator[str]:
        """Every knowledge base there is or was, and every folder on the volume that looks like one's."""
        seen: set[str] = set()
        after: tuple[str, ...] | None = None
        while True:
            rows = self.storage.find(KnowledgeBaseRepository.table, EVERY_TENANT, Query(limit=MAX_PAGE, after=after))
            seen |= {str(row["id"]) for row in rows}
            yield from (str(row["id"]) for row in rows)
            if len(rows) < MAX_PAGE:
                break
            after = (rows[-1]["id"],)
        yield from (name for name in self._engine.volume.knowledge_bases() if name not in seen)

    def _merged(self, base: KnowledgeBase, lease: Lease, at_rest: bool) -> list[Merged]:
        done: list[Merged] = []
        for _ in range(MOST_ROUNDS):
            merged = self._merges.merge(self._bases.get(base.tenant_id, base.id), at_rest=at_rest)
            if merged is None or not self._leases.renew(lease):
                break
            done.append(merged)
            self._observer.count("kb_merges", 1)
        return done


class UpkeepThread:
    """Does upkeep behind the requests of one process. Started by the first notice; a process may die at any point of it."""

    def __init__(self, upkeep: Upkeep, *, enabled: bool = True) -> None:
        self._upkeep = upkeep
        self._enabled = enabled
        self._noticed: dict[str, None] = {}
        self._collected_at: dict[str, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def notice(self, kb_id: str) -> None:
        """Say that a knowledge base was written to; returns at once."""
        if not self._enabled:
            return
        with self._changed:
            self._noticed[kb_id] = None
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
                self._thread.start()
            self._changed.notify()

    def admit(self, base: KnowledgeBase) -> None:
        """As `Upkeep.admit`. A refusal has somebody merge: whoever was at it may have died, and without commits nobody looks."""
        if not self._enabled:
            return
        try:
            self._upkeep.admit(base)
        except RateLimited:
            self.notice(base.id)
            raise

    def close(self) -> None:
        """Stop after the step under way, waiting at most 5 seconds for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        while (kb_id := self._next()) is not None:
            try:
                self._look_after(kb_id)
            except NotFound:
                continue  # it was deleted meanwhile; collecting is the scheduler's matter
            except AgentHubError as error:
                _log.warning("upkeep of knowledge base %s: %s", kb_id, error.message)
            except Exception:  # noqa: BLE001 - a worker loop: one knowledge base's trouble is not another's
                _log.exception("upkeep of knowledge base %s failed", kb_id)

    def _next(self) -> str | None:
        with self._changed:
            while not self._noticed and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            kb_id = next(iter(self._noticed))
            del self._noticed[kb_id]
            return kb_id

    def _look_after(self, kb_id: str) -> None:
        base = KnowledgeBaseRepository(self._upkeep.storage).get(EVERY_TENANT, kb_id)
        self._upkeep.erase(base)
        self._upkeep.merge(KnowledgeBaseRepository(self._upkeep.storage).get(EVERY_TENANT, kb_id))
        if time.monotonic() - self._collected_at.setdefault(kb_id, time.monotonic()) > _COLLECT_SECONDS:
            self._collected_at[kb_id] = time.monotonic()
            self._upkeep.maintain(kb_id)
