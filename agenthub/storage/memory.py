"""The ephemeral backend: rows in this process's memory, gone with it. The model the other backends are compared with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agenthub.core import json
from agenthub.core.clock import Clock, SystemClock
from agenthub.core.errors import InvalidInput, NotFound, VersionConflict
from agenthub.storage.contract import (
    ALL,
    MAX_PAGE,
    MAX_WRITES,
    ColumnType,
    DbNow,
    Delete,
    Filter,
    Insert,
    Query,
    Question,
    Require,
    Row,
    RowReader,
    Storage,
    Table,
    TenantScope,
    Update,
    Write,
)
from agenthub.storage.evaluate import comes_after, in_order, instant, matches
from agenthub.storage.gate import CHANGES, GATE, GATE_ID, Lane, Seen, lane_of, seen
from agenthub.storage.rows import already_exists, check_versioned, checked_filter, checked_query, stored_changes, stored_row, tenant_value


@dataclass(slots=True)
class _Steps:
    """What a commit did so far: how to undo it, and which rows it touched."""

    undo: list[Callable[[], object]] = field(default_factory=list)
    touched: list[tuple[str, str]] = field(default_factory=list)

    def did(self, table: Table, key: str, undo: Callable[[], object]) -> None:
        self.undo.append(undo)
        self.touched.append((table.name, key))


@dataclass(slots=True)
class Shelf:
    """One table's rows by key (JSON columns as bytes, so that no caller shares them) and its unique values."""

    table: Table
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: dict[tuple[str, ...], dict[tuple[Any, ...], str]] = field(default_factory=dict)

    def unique_values(self, row: Row) -> Iterator[tuple[tuple[str, ...], tuple[Any, ...]]]:
        for columns in self.table.unique:
            values = tuple(row[column] for column in columns)
            if None not in values:
                yield columns, values

    def put(self, row: dict[str, Any]) -> None:
        """Store the row in place of the one with its key.

        Raises: AlreadyExists, changing nothing, when another row has its unique values.
        """
        key = row[self.table.key]
        for columns, values in self.unique_values(row):
            if self.taken.setdefault(columns, {}).get(values, key) != key:
                raise already_exists(self.table, columns)
        self.remove(key)
        self.rows[key] = row
        for columns, values in self.unique_values(row):
            self.taken[columns][values] = key

    def remove(self, key: str) -> dict[str, Any] | None:
        row = self.rows.pop(key, None)
        if row is not None:
            for columns, values in self.unique_values(row):
                del self.taken[columns][values]
        return row


class MemoryStorage(Storage):
    """Rows in memory behind one lock; `clock` is the database's clock."""

    backend = "memory"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._shelves: dict[str, Shelf] = {}

    def get(self, table: Table, tenant: TenantScope, key: str) -> Row | None:
        return self.get_many(table, tenant, [key]).get(key)

    def get_many(self, table: Table, tenant: TenantScope, keys: Sequence[str]) -> dict[str, Row]:
        if len(keys) > MAX_PAGE:
            raise InvalidInput(f"at most {MAX_PAGE} keys at once")
        owner = tenant_value(table, tenant)
        with self._lock:
            rows = self._shelf(table).rows
            return {key: _given(table, rows[key]) for key in keys if key in rows and _owned(table, rows[key], owner)}

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        where, order, after = checked_query(table, query)
        with self._lock:
            rows = in_order(self._matching(table, tenant, where), order)
            if after is not None:
                rows = [row for row in rows if comes_after(row, order, after)]
            return [_given(table, row) for row in rows[: query.limit]]

    @contextmanager
    def at_one_moment(self) -> Iterator[RowReader]:
        copy = MemoryStorage(self._clock)
        with self._lock:
            copy._shelves = {name: replace(shelf, rows=dict(shelf.rows)) for name, shelf in self._shelves.items()}
        yield copy

    def count(self, table: Table, tenant: TenantScope, where: Filter = ALL) -> int:
        checked = checked_filter(table, where)
        with self._lock:
            return sum(1 for _ in self._matching(table, tenant, checked))

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        if not 1 <= len(writes) <= MAX_WRITES:
            raise InvalidInput(f"a commit holds 1 to {MAX_WRITES} writes")
        with self._lock, _all_or_none() as steps:
            now = self.now()
            gate = self._pass_gate(lane_of(writes), now)
            results = [self._apply(write, now, steps) for write in writes]
            self._note(gate, steps, now)
            return results

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        with self._lock, _all_or_none() as steps:
            now = self.now()
            writes = [Insert(table, row, ignore_existing=True) for row in rows]
            gate = self._pass_gate(lane_of(writes), now)
            for write in writes:
                self._insert(write, now, steps)
            self._note(gate, steps, now)

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        with self._lock:
            rows = question.memory(self._whole_table, parameters)
            return [{column.name: row[column.name] for column in question.columns} for row in rows]

    def now(self) -> datetime:
        return self._clock.now()

    def ping(self) -> float:
        started = self._clock.monotonic()
        with self._lock:
            return self._clock.monotonic() - started

    def close(self) -> None:
        with self._lock:
            self._shelves.clear()

    def _shelf(self, table: Table) -> Shelf:
        return self._shelves.setdefault(table.name, Shelf(table))

    def _whole_table(self, name: str) -> Sequence[Row]:
        shelf = self._shelves.get(name)
        return [_given(shelf.table, row) for row in shelf.rows.values()] if shelf else []

    def _matching(self, table: Table, tenant: TenantScope, where: Filter) -> Iterator[dict[str, Any]]:
        owner, now = tenant_value(table, tenant), self.now()
        return (row for row in self._shelf(table).rows.values() if _owned(table, row, owner) and matches(row, where, now))

    def _pass_gate(self, lane: Lane, now: datetime) -> Seen | None:
        """The gate as an ordinary commit finds it; None for one that needs not ask."""
        if lane != "open":
            return None
        row = self._shelf(GATE).rows.get(GATE_ID, {})
        until = row.get("until")
        lapsed = until is not None and until <= now
        gate = seen(row.get("mode"), lapsed, row.get("note"), row.get("followed"), row.get("exported"), now)
        gate.admit()
        return gate

    def _note(self, gate: Seen | None, steps: _Steps, now: datetime) -> None:
        for row in gate.notes(steps.touched) if gate is not None and gate.listened else ():
            self._insert(Insert(CHANGES, row), now, steps)

    def _apply(self, write: Write, now: datetime, steps: _Steps) -> Row | None:
        if isinstance(write, Insert):
            return self._insert(write, now, steps)
        if isinstance(write, Update):
            return self._update(write, now, steps)
        if isinstance(write, Delete):
            self._delete(write, now, steps)
            return None
        if isinstance(write, Require):
            row = self._guarded(write.table, write.tenant, write.key, write.where, None, now)
            return _given(write.table, row)
        for doomed in list(self._matching(write.table, write.tenant, checked_filter(write.table, write.where))):
            self._remove(write.table, doomed[write.table.key], steps)
        return None

    def _insert(self, write: Insert, now: datetime, steps: _Steps) -> Row | None:
        table, shelf = write.table, self._shelf(write.table)
        row = _kept(table, stored_row(table, write.row), now)
        key = row[table.key]
        if key in shelf.rows:
            if write.ignore_existing:
                return None
            raise already_exists(table, (table.key,))
        shelf.put(row)
        steps.did(table, key, lambda: shelf.remove(key))
        return _given(table, row)

    def _update(self, write: Update, now: datetime, steps: _Steps) -> Row:
        table, shelf = write.table, self._shelf(write.table)
        changes = _kept(table, stored_changes(table, write.changes), now)
        old = self._guarded(table, write.tenant, write.key, write.where, write.expected_version, now)
        row = {**old, **changes}
        if table.versioned:
            row["version"] += 1
        shelf.put(row)
        steps.did(table, write.key, lambda: _restore(shelf, old))
        return _given(table, row)

    def _delete(self, write: Delete, now: datetime, steps: _Steps) -> None:
        try:
            self._guarded(write.table, write.tenant, write.key, write.where, write.expected_version, now)
        except NotFound:
            if not write.missing_ok:
                raise
            return
        self._remove(write.table, write.key, steps)

    def _remove(self, table: Table, key: str, steps: _Steps) -> None:
        shelf = self._shelf(table)
        row = shelf.remove(key)
        if row is not None:
            steps.did(table, key, lambda: _restore(shelf, row))

    def _guarded(self, table: Table, tenant: TenantScope, key: str, where: Filter, version: int | None, now: datetime) -> dict[str, Any]:
        checked = checked_filter(table, where)
        check_versioned(table, version)
        row = self._shelf(table).rows.get(key)
        if row is None or not _owned(table, row, tenant_value(table, tenant)):
            raise NotFound(f"{table.name} has no such row")
        if version is not None and row["version"] != version:
            raise VersionConflict(f"the row of {table.name} changed since it was read")
        if not matches(row, checked, now):
            raise VersionConflict(f"the row of {table.name} is not in the required state")
        return row


def _restore(shelf: Shelf, row: dict[str, Any]) -> None:
    # Undoing runs backwards, so the unique values of the old row are free again by the time it is put back.
    shelf.put(row)


@contextmanager
def _all_or_none() -> Iterator[_Steps]:
    steps = _Steps()
    try:
        yield steps
    except BaseException:
        for step in reversed(steps.undo):
            step()
        raise


def _owned(table: Table, row: Row, owner: str | None) -> bool:
    return owner is None or (table.tenant is not None and row[table.tenant] == owner)


def _kept(table: Table, values: dict[str, Any], now: datetime) -> dict[str, Any]:
    for name, value in values.items():
        if isinstance(value, DbNow):
            values[name] = instant(value, now)
        elif value is not None and table.column(name).type is ColumnType.JSON:
            values[name] = json.dumps(value)
    return values


def _given(table: Table, row: Row) -> dict[str, Any]:
    result = dict(row)
    for column in table.columns:
        if column.type is ColumnType.JSON and result[column.name] is not None:
            result[column.name] = json.loads(result[column.name])
    return result
