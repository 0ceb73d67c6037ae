"""The exporter: what commits noted goes to the warehouse in batches, and the notes go when it is there.

A note is removed only after its row is in the warehouse, and the warehouse takes a row only once. So wherever an exporter is killed,
the next one finds either the note, and puts the row (again), or neither. On the first run the gate is told to note before the first row
is read; then the rows of old follow in key order, a checkpoint with each batch.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.core.errors import AgentHubError, Conflict, InvalidInput, LeaseLost
from agenthub.core.failpoints import failpoint
from agenthub.core.observe import Observer, Unobserved
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import Compare, DbNow, DeleteWhere, Query, Row, Storage, Table, Write
from agenthub.storage.gate import CHANGES, read_gate, turn_gate
from agenthub.storage.moving.canonical import encoded
from agenthub.storage.warehouse.contract import Batch, Part, Warehouse
from agenthub.storage.warehouse.feed import NOTED, FeedRow, Leased, Standing, lag_of, standing_of

TURN_SECONDS: Final = 60.0
"""How long one turn goes on at most before the lease is given back."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes at once, how often, and how long an exporter that died keeps others from going on."""

    batch_rows: int = 500
    batch_bytes: int = 1024 * 1024
    interval_seconds: float = 10.0
    lease_seconds: float = 45.0


@dataclass(frozen=True, slots=True)
class _Load:
    """A batch with what to write into the database once it is in the warehouse."""

    batch: Batch
    writes: tuple[Write, ...]
    changes: Mapping[str, object]


class Exporter:
    """Exports the events of these tables. Any number may run, in any process; one at a time has the lease."""

    def __init__(
        self, storage: Storage, warehouse: Warehouse, tables: Sequence[Table], limits: Limits, observer: Observer | None = None
    ) -> None:
        self._storage = storage
        self._warehouse = warehouse
        self._tables = {table.name: table for table in tables}
        self._limits = limits
        self._observer = observer or Unobserved()
        self.feed = FeedRow(storage, limits.lease_seconds)

    def standing(self) -> Standing:
        """How far the warehouse is behind. Raises: StorageUnavailable."""
        return standing_of(self._storage, list(self._tables.values()))

    def lag(self) -> float | None:
        """Seconds by which answers of the warehouse may be behind; None while it can't answer. Raises: StorageUnavailable."""
        return lag_of(self._storage, list(self._tables.values()))

    def run(self, seconds: float = TURN_SECONDS, stop: threading.Event | None = None, *, when_due: bool = True) -> int | None:
        """Export what is new, for at most so long (and the batch under way); how many rows went. None when it is not this one's turn.

        Raises: AgentHubError, after noting it for all to see and postponing the next try, when database or warehouse fail.
        """
        leased = self.feed.take(when_due=when_due)
        if leased is None:
            return None
        end = time.monotonic() + seconds
        try:
            return self._turn(leased, end, stop or threading.Event())
        except LeaseLost:
            return None
        except AgentHubError as error:
            self.feed.postpone(leased, error.message, error.retry_after_seconds or 0.0)
            self._observer.count("warehouse_failures_total")
            raise

    def end(self) -> None:
        """Note no more events and forget how far the export was; a later one begins anew and still puts no row twice."""
        gate = read_gate(self._storage)
        if gate.exported:
            turn_gate(self._storage, gate, exported="")
        self.feed.end()

    def _turn(self, leased: Leased, end: float, stop: threading.Event) -> int:
        leased, count = self._listening(leased), 0
        while True:
            load = self._next_load(leased)
            if load is None:
                break
            leased, count = self._carried(leased, load), count + load.batch.row_count
            if stop.is_set() or time.monotonic() >= end:
                self.feed.release(leased, 0.0)
                return count
        self.feed.release(leased, self._limits.interval_seconds)
        return count

    def _listening(self, leased: Leased) -> Leased:
        """See to it that every commit notes its events; what was written while none did is brought over again.

        Raises: Conflict when the rows moved to another database.
        """
        gate = read_gate(self._storage)
        if gate.mode == "moved":
            raise Conflict(f"nothing is exported from here: {gate.note}")
        noted, wanted = set(filter(None, gate.exported.split(","))), set(self._tables)
        if noted == wanted:
            return leased
        done = [name for name in leased.feed.done if name in noted and name in wanted]
        leased = self.feed.write(leased, done=done, table_name="", after_key="", started_at=DbNow())
        turn_gate(self._storage, gate, exported=",".join(sorted(wanted)))
        failpoint("warehouse.listening")
        return leased

    def _next_load(self, leased: Leased) -> _Load | None:
        for name, table in self._tables.items():
            if name not in leased.feed.done:
                return self._old_rows(leased, table)
        return self._noted_rows()

    def _old_rows(self, leased: Leased, table: Table) -> _Load:
        after = leased.feed.after_key if leased.feed.table_name == table.name else ""
        query = Query(limit=self._limits.batch_rows, after=(after,) if after else None)
        page = self._storage.find(table, EVERY_TENANT, query)
        rows = page[: self._fitting((table, row) for row in page)]
        batch = _batch_of([(table, rows)])
        if len(rows) == len(page) < self._limits.batch_rows:
            return _Load(batch, (), {"done": [*leased.feed.done, table.name], "table_name": "", "after_key": ""})
        return _Load(batch, (), {"table_name": table.name, "after_key": rows[-1][table.key]})

    def _noted_rows(self) -> _Load | None:
        notes = self._storage.find(CHANGES, EVERY_TENANT, Query(NOTED, limit=self._limits.batch_rows))
        if not notes:
            return None
        found = self._rows_of(notes)
        pairs = [(note["table_name"], note["row_key"]) for note in notes]
        count = self._fitting((self._tables[pair[0]], found[pair]) if pair in found else None for pair in pairs)
        chosen = {pair: found[pair] for pair in pairs[:count] if pair in found}
        parts = [(table, [row for pair, row in chosen.items() if pair[0] == name]) for name, table in self._tables.items()]
        settled = tuple(note["id"] for note in notes[:count])
        return _Load(_batch_of(parts), (DeleteWhere(CHANGES, EVERY_TENANT, Compare("id", "in", settled)),), {})

    def _rows_of(self, notes: Sequence[Row]) -> dict[tuple[str, str], Row]:
        """The rows that the notes are about; one that is gone since needs no exporting."""
        found: dict[tuple[str, str], Row] = {}
        for name, table in self._tables.items():
            keys = list(dict.fromkeys(note["row_key"] for note in notes if note["table_name"] == name))
            if keys:
                found |= {(name, key): row for key, row in self._storage.get_many(table, EVERY_TENANT, keys).items()}
        return found

    def _fitting(self, rows: Iterable[tuple[Table, Row] | None]) -> int:
        """How many of the first ones fit into a batch; at least one."""
        size = count = 0
        for pair in rows:
            size += len(encoded(*pair)) if pair is not None else 0
            if count and size > self._limits.batch_bytes:
                break
            count += 1
        return count

    def _carried(self, leased: Leased, load: _Load) -> Leased:
        """Put the batch and set the checkpoint. In this order: what is noted as exported is in the warehouse."""
        started, batch = time.monotonic(), load.batch
        if batch.parts:
            failpoint("warehouse.put")
            self._put(batch)
            failpoint("warehouse.is_put")
        counts = {"row_count": leased.feed.row_count + batch.row_count, "batch_count": leased.feed.batch_count + bool(batch.parts)}
        leased = self.feed.write(leased, *load.writes, exported_at=DbNow(), **counts, **load.changes)
        failpoint("warehouse.checkpoint")
        self._observer.count("warehouse_rows_total", batch.row_count)
        self._observer.time("warehouse_batch_seconds", time.monotonic() - started)
        return leased

    def _put(self, batch: Batch) -> None:
        """Put the batch; where it is refused, its halves, so that the one row that can't go is named.

        Raises: Conflict naming the row.
        """
        try:
            self._warehouse.put(batch)
        except InvalidInput as error:
            rows = [(part.table, row) for part in batch.parts for row in part.rows]
            if len(rows) == 1:
                table, row = rows[0]
                raise Conflict(f"{table.name} {row[table.key]} is refused by the warehouse: {error.message}") from error
            middle = len(rows) // 2
            for half in (rows[:middle], rows[middle:]):
                self._put(_batch_of([(table, [row for its, row in half if its is table]) for table in self._tables.values()]))


def _batch_of(parts: Iterable[tuple[Table, Sequence[Row]]]) -> Batch:
    present = tuple(Part(table, rows) for table, rows in parts if rows)
    name = hashlib.sha256()
    for part in present:
        name.update(part.table.name.encode())
        for row in part.rows:
            name.update(b"\x00" + str(row[part.table.key]).encode())
        name.update(b"\x01")
    return Batch(name.hexdigest()[:32], present)
