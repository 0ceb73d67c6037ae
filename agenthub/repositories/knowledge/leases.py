"""One maintainer of a knowledge base at a time: a row that runs out by the database's clock.

A lease saves work, it doesn't keep anything safe: a maintainer that was given up for dead and goes on is fenced off by what it
commits, since a merge names its inputs and is dropped when they are gone. So a lease is short and renewed by who is at work: while a dead
one keeps others out, segments pile up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agenthub.core.errors import AlreadyExists, NotFound, VersionConflict
from agenthub.core.heartbeat import Heartbeat
from agenthub.core.ids import random_name
from agenthub.core.types import EVERY_TENANT, KnowledgeBaseId, TenantId
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.storage.contract import Compare, DbNow, Delete, Insert, Storage, Table, Update

LEASE_SECONDS: Final = 15.0
"""How long a maintainer that died keeps others out. Living ones renew theirs three times in it."""
_LONGEST_SECONDS: Final = 3600.0
"""After this time at work a maintainer no longer renews: it may hang."""


@dataclass(frozen=True, slots=True)
class KnowledgeLease:
    """Who maintains a knowledge base, the id of which is the row's. `fence` is drawn anew with every taking."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    fence: str
    expires_at: datetime


LEASES: Final = Table.of("kb_leases", KnowledgeLease, indexes=[("expires_at",)])


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was taken."""

    base_id: str
    fence: str


class Leases:
    """Takes and gives back leases."""

    def __init__(self, storage: Storage, seconds: float = LEASE_SECONDS) -> None:
        self._storage = storage
        self._seconds = seconds

    @contextmanager
    def taken(self, base: KnowledgeBase) -> Iterator[Lease | None]:
        """The lease for the time of the block; None while another maintainer has it."""
        lease = Lease(base.id, random_name())
        if not self._take(base, lease):
            yield None
            return
        every = self._seconds / 3
        try:
            with Heartbeat("upkeep-lease", lambda: self.renew(lease), every_seconds=every, most_seconds=_LONGEST_SECONDS):
                yield lease
        finally:
            with suppress(VersionConflict):
                mine = Compare("fence", "eq", lease.fence)
                self._storage.commit([Delete(LEASES, EVERY_TENANT, lease.base_id, where=mine, missing_ok=True)])

    def renew(self, lease: Lease) -> bool:
        """Hold the lease for its whole time from now on; False when another has taken it over."""
        mine = Compare("fence", "eq", lease.fence)
        try:
            self._storage.commit([Update(LEASES, EVERY_TENANT, lease.base_id, {"expires_at": DbNow(self._seconds)}, None, mine)])
        except (VersionConflict, NotFound):
            return False
        return True

    def _take(self, base: KnowledgeBase, lease: Lease) -> bool:
        changes = {"fence": lease.fence, "expires_at": DbNow(self._seconds)}
        row = {"id": base.id, "tenant_id": base.tenant_id, "knowledge_base_id": base.id, **changes}
        try:
            self._storage.commit([Insert(LEASES, row)])
        except AlreadyExists:
            return self._take_over(lease, changes)
        return True

    def _take_over(self, lease: Lease, changes: dict[str, object]) -> bool:
        try:
            self._storage.commit([Update(LEASES, EVERY_TENANT, lease.base_id, changes, None, Compare("expires_at", "le", DbNow()))])
        except (VersionConflict, NotFound):
            return False
        return True
