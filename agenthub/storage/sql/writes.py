"""The writes of one commit as statements inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from agenthub.core.errors import NotFound, VersionConflict
from agenthub.storage.contract import DbNow, Delete, DeleteWhere, Insert, Require, Row, Table, Update, Write
from agenthub.storage.gate import CHANGES, Seen
from agenthub.storage.rows import check_versioned, stored_changes, stored_row
from agenthub.storage.sql.compiling import Condition, holds, keyed, owned
from agenthub.storage.sql.dialect import SqlDialect
from agenthub.storage.sql.tables import TableSet


@dataclass(frozen=True, slots=True)
class InsertRun:
    """Inserts of one table that follow one another: one statement."""

    table: Table
    rows: list[dict[str, Any]]
    ignore_existing: bool


Step = InsertRun | Update | Delete | Require | DeleteWhere


def steps(writes: Sequence[Write]) -> list[Step]:
    """The writes in order, values as stored, neighbouring inserts of one table joined.

    Raises: InvalidInput when a value does not fit its column.
    """
    result: list[Step] = []
    for write in writes:
        if isinstance(write, Insert):
            _add_insert(result, write)
        elif isinstance(write, Update):
            check_versioned(write.table, write.expected_version)
            changes = stored_changes(write.table, write.changes)
            result.append(Update(write.table, write.tenant, write.key, changes, write.expected_version, write.where))
        else:
            if isinstance(write, Delete):
                check_versioned(write.table, write.expected_version)
            result.append(write)
    return result


def _add_insert(result: list[Step], write: Insert) -> None:
    row = stored_row(write.table, write.row)
    last = result[-1] if result else None
    joins = isinstance(last, InsertRun) and last.table == write.table and last.ignore_existing == write.ignore_existing
    if isinstance(last, InsertRun) and joins and not _timed(row) and not _timed(last.rows[-1]):
        last.rows.append(row)
    else:
        result.append(InsertRun(write.table, [row], write.ignore_existing))


def _timed(row: Row) -> bool:
    return any(isinstance(value, DbNow) for value in row.values())


class Writer:
    """Applies steps on one connection; the caller owns the transaction. With `listened`, it keeps which rows were touched."""

    def __init__(self, connection: sa.Connection, tables: TableSet, dialect: SqlDialect, *, listened: bool = False) -> None:
        self._connection = connection
        self._tables = tables
        self._dialect = dialect
        self._listened = listened
        self._touched: list[tuple[str, str]] = []

    def apply(self, step: Step) -> list[Row | None]:
        """One result per write of the step.

        Raises: NotFound, VersionConflict when its condition fails; the driver's errors as SQLAlchemy wraps them.
        """
        if isinstance(step, InsertRun):
            rows = self._insert(step)
            self._touch(step.table, [row[step.table.key] for row in rows if row is not None])
            return rows
        if isinstance(step, Update):
            row = self._update(step)
            self._touch(step.table, [step.key])
            return [row]
        if isinstance(step, Require):
            return [self._require(step)]
        if isinstance(step, Delete):
            self._delete(step)
        else:
            self._delete_where(step)
        return [None]

    def note(self, gate: Seen) -> None:
        """Write down for the feeds of the gate what was touched."""
        notes = gate.notes(self._touched)
        if notes:
            self._connection.execute(self._dialect.insert(self._tables[CHANGES]), notes)

    def _touch(self, table: Table, keys: Sequence[str]) -> None:
        if self._listened:
            self._touched += [(table.name, key) for key in keys]

    def _insert(self, run: InsertRun) -> list[Row | None]:
        target = self._tables[run.table]
        statement: Any = self._dialect.insert(target)
        if run.ignore_existing:
            statement = statement.on_conflict_do_nothing(index_elements=[target.c[run.table.key]])
        if _timed(run.rows[0]):
            return [self._insert_timed(statement, target, run.rows[0])]
        if not run.ignore_existing:
            self._connection.execute(statement, run.rows)
            return list(run.rows)  # what was checked is what is stored: nothing need be read back
        key = run.table.key
        added = set(self._connection.execute(statement.returning(target.c[key]), run.rows).scalars())
        results: list[Row | None] = []
        for row in run.rows:
            results.append(row if row[key] in added else None)
            added.discard(row[key])
        return results

    def _insert_timed(self, statement: Any, target: sa.Table, row: Row) -> Row | None:
        found = self._connection.execute(statement.values(self._values(row)).returning(target)).mappings().one_or_none()
        return None if found is None else dict(found)

    def _values(self, row: Row) -> dict[str, Any]:
        return {name: self._dialect.clock(value) if isinstance(value, DbNow) else value for name, value in row.items()}

    def _update(self, write: Update) -> Row:
        target = self._tables[write.table]
        values = self._values(write.changes)
        if write.table.versioned:
            values["version"] = target.c.version + 1
        elif not values:
            values[write.table.key] = target.c[write.table.key]
        statement = sa.update(target).where(self._condition(write, target)).values(values).returning(target)
        row = self._connection.execute(statement).mappings().one_or_none()
        if row is None:
            raise self._refusal(write, target)
        return dict(row)

    def _require(self, write: Require) -> Row:
        target = self._tables[write.table]
        statement = self._dialect.shared(sa.select(target).where(self._condition(write, target)))
        row = self._connection.execute(statement).mappings().one_or_none()
        if row is None:
            raise self._refusal(write, target)
        return dict(row)

    def _delete(self, write: Delete) -> None:
        target = self._tables[write.table]
        deleted = self._connection.execute(sa.delete(target).where(self._condition(write, target))).rowcount
        if deleted == 0:
            refusal = self._refusal(write, target)
            if not (write.missing_ok and isinstance(refusal, NotFound)):
                raise refusal
            return
        self._touch(write.table, [write.key])

    def _delete_where(self, write: DeleteWhere) -> None:
        target = self._tables[write.table]
        where = holds(write.table, target, write.where, self._dialect.steady_clock)
        statement = sa.delete(target).where(owned(write.table, target, write.tenant), where)
        if not self._listened:
            self._connection.execute(statement)
            return
        removed = self._connection.execute(statement.returning(target.c[write.table.key])).scalars()
        self._touch(write.table, list(removed))

    def _condition(self, write: Update | Delete | Require, target: sa.Table) -> Condition:
        condition = sa.and_(
            keyed(write.table, target, write.tenant, write.key),
            holds(write.table, target, write.where, self._dialect.clock),
        )
        version = None if isinstance(write, Require) else write.expected_version
        return condition if version is None else sa.and_(condition, target.c.version == version)

    def _refusal(self, write: Update | Delete | Require, target: sa.Table) -> NotFound | VersionConflict:
        key = target.c[write.table.key]
        exists = self._connection.execute(sa.select(key).where(keyed(write.table, target, write.tenant, write.key))).first()
        if exists is None:
            return NotFound(f"{write.table.name} has no such row")
        return VersionConflict(f"the row of {write.table.name} changed since it was read, or is not in the required state")
