"""The feed's row: who exports, how far the first filling is, and how the last try went. It lies beside the events it is about.

What is still to be exported is said by the notes that commits leave (storage/gate.py), not by a position: a transaction that commits
late leaves its note late, and nothing is passed over. Every change of the row names the fence of whoever makes it, so an exporter that was
frozen or given up for dead moves nothing when it wakes up.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import AlreadyExists, LeaseLost, NotFound, VersionConflict
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import And, Compare, DbNow, DeleteWhere, Insert, Query, Row, Storage, Table, Update, Write
from agenthub.storage.gate import CHANGES

FEED_ID: Final = "warehouse"
NOTED: Final = Compare("feed", "eq", FEED_ID)
_LONGEST_PAUSE_SECONDS: Final = 300.0
_LONGEST_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class Feed:
    """How the export stands.

    `done` names the tables whose rows of old are in the warehouse; of `table_name` those up to and including `after_key` are.
    `row_count` counts what was sent, also again. The lease belongs to whoever knows `fence`, until `lease_until` by the database's
    clock; nobody exports before `due_at`. `tries` counts failures in a row, `error` is the last one's message, `failing_since` when
    they began.
    """

    id: str
    done: Sequence[str]
    table_name: str
    after_key: str
    row_count: int
    batch_count: int
    fence: str
    lease_until: datetime
    due_at: datetime
    tries: int
    error: str | None
    failing_since: datetime | None
    started_at: datetime
    exported_at: datetime | None
    version: int = 1


FEEDS: Final = Table.of("storage_feeds", Feed, tenant=None)


@dataclass(frozen=True, slots=True)
class Leased:
    """The feed as it was when this exporter last wrote to it."""

    feed: Feed
    fence: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the warehouse is behind.

    `behind_rows` is how many rows it lacks. `lag_seconds` is the age of the oldest of them, by when it was written; while the
    rows of old are brought over, at least the time since that began. `filled`: they all are there. `enabled`: an export was ever begun.
    """

    enabled: bool
    filled: bool
    behind_rows: int
    lag_seconds: float
    row_count: int = 0
    exported_at: datetime | None = None
    tries: int = 0
    error: str | None = None
    failing_seconds: float = 0.0


class FeedRow:
    """Takes and gives back the lease; writes checkpoints under it."""

    def __init__(self, storage: Storage, lease_seconds: float) -> None:
        self._storage = storage
        self._lease_seconds = lease_seconds

    def find(self) -> Feed | None:
        """The row; None before the first export. Raises: StorageUnavailable."""
        row = self._storage.get(FEEDS, EVERY_TENANT, FEED_ID)
        return None if row is None else Feed(**row)

    def take(self, *, when_due: bool = True) -> Leased | None:
        """The lease; None while another has it, or when nothing is due.

        Raises: StorageUnavailable.
        """
        feed, now, fence = self.find() or self._made(), self._storage.now(), random_name()
        if feed.lease_until > now or (when_due and feed.due_at > now):
            return None
        free = And((Compare("fence", "eq", feed.fence), Compare("lease_until", "le", DbNow())))
        changes = {"fence": fence, "lease_until": DbNow(self._lease_seconds)}
        try:
            row = self._storage.commit([Update(FEEDS, EVERY_TENANT, FEED_ID, changes, None, free)])[0]
        except (VersionConflict, NotFound):
            return None
        failpoint("warehouse.taken")
        return _leased(row, fence)

    def _made(self) -> Feed:
        now = self._storage.now()
        fresh = Feed(
            id=FEED_ID,
            done=[],
            table_name="",
            after_key="",
            row_count=0,
            batch_count=0,
            fence="",
            lease_until=now,
            due_at=now,
            tries=0,
            error=None,
            failing_since=None,
            started_at=now,
            exported_at=None,
        )
        with suppress(AlreadyExists):
            self._storage.commit([Insert(FEEDS, {name: getattr(fresh, name) for name in Feed.__dataclass_fields__})])
        found = self.find()
        if found is None:
            raise LeaseLost("the export was ended while it began")
        return found

    def write(self, leased: Leased, *writes: Write, **changes: Any) -> Leased:
        """Commit changes of the row together with other writes, if the fence still stands; the lease runs anew.

        Raises: LeaseLost when another exporter went on, or the export was ended: nothing was written then. StorageUnavailable.
        """
        stands = Compare("fence", "eq", leased.fence)
        changes.setdefault("lease_until", DbNow(self._lease_seconds))
        try:
            row = self._storage.commit([Update(FEEDS, EVERY_TENANT, FEED_ID, changes, None, stands), *writes])[0]
        except (VersionConflict, NotFound) as error:
            raise LeaseLost("another exporter goes on") from error
        return _leased(row, leased.fence)

    def release(self, leased: Leased, pause_seconds: float) -> None:
        """Give the lease back; the next turn is due after the pause. The export works."""
        sound = {"tries": 0, "error": None, "failing_since": None}
        self._give_back(leased, due_at=DbNow(pause_seconds), **sound)

    def postpone(self, leased: Leased, message: str, retry_after_seconds: float) -> None:
        """Give the lease back after a failure: nobody tries for a while, longer with each one."""
        tries = leased.feed.tries + 1
        pause = max(retry_after_seconds, min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        since = leased.feed.failing_since or DbNow()
        self._give_back(leased, due_at=DbNow(pause), tries=tries, error=message[:_LONGEST_ERROR], failing_since=since)

    def _give_back(self, leased: Leased, **changes: Any) -> None:
        with suppress(LeaseLost):
            self.write(leased, fence="", lease_until=DbNow(), **changes)

    def end(self) -> None:
        """Forget the row and all notes."""
        self._storage.commit([DeleteWhere(FEEDS, EVERY_TENANT, Compare("id", "eq", FEED_ID)), DeleteWhere(CHANGES, EVERY_TENANT, NOTED)])


def standing_of(storage: Storage, tables: Sequence[Table]) -> Standing:
    """How the export of these tables stands.

    Raises: StorageUnavailable.
    """
    row = storage.get(FEEDS, EVERY_TENANT, FEED_ID)
    if row is None:
        return Standing(
            enabled=False, filled=False, behind_rows=sum(storage.count(table, EVERY_TENANT) for table in tables), lag_seconds=0.0
        )
    feed, now = Feed(**row), storage.now()
    lacking = [table for table in tables if table.name not in feed.done]
    behind = storage.count(CHANGES, EVERY_TENANT, NOTED) + sum(_left(storage, feed, table) for table in lacking)
    oldest = storage.find(CHANGES, EVERY_TENANT, Query(NOTED, limit=1))
    begun = [note["noted_at"] for note in oldest] + ([feed.started_at] if lacking else [])
    return Standing(
        enabled=True,
        filled=not lacking,
        behind_rows=behind,
        lag_seconds=max(0.0, (now - min(begun, default=now)).total_seconds()),
        row_count=feed.row_count,
        exported_at=feed.exported_at,
        tries=feed.tries,
        error=feed.error,
        failing_seconds=(now - feed.failing_since).total_seconds() if feed.failing_since else 0.0,
    )


def lag_of(storage: Storage, tables: Sequence[Table]) -> float | None:
    """Seconds by which answers of the warehouse may be behind; None while the rows of old are not all there. Raises: StorageUnavailable."""
    row = storage.get(FEEDS, EVERY_TENANT, FEED_ID)
    if row is None or any(table.name not in row["done"] for table in tables):
        return None
    oldest = storage.find(CHANGES, EVERY_TENANT, Query(NOTED, limit=1))
    return max(0.0, (storage.now() - oldest[0]["noted_at"]).total_seconds()) if oldest else 0.0


def _left(storage: Storage, feed: Feed, table: Table) -> int:
    after = feed.after_key if feed.table_name == table.name else ""
    return storage.count(table, EVERY_TENANT, Compare(table.key, "gt", after))


def _leased(row: Row | None, fence: str) -> Leased:
    if row is None:
        raise AssertionError("an update returns its row")
    return Leased(Feed(**row), fence)
