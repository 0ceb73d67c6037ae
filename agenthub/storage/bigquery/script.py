"""The two statements of a commit: the read of all it needs, at one moment, and the transaction that writes what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from google.cloud.bigquery import ScalarQueryParameter

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.bigquery.compiling import Statement, columns_of, holds, name_of, owned
from agenthub.storage.bigquery.failures import MOVED, WRONG_COUNT
from agenthub.storage.bigquery.lookups import Lookups, Wanted
from agenthub.storage.bigquery.rehearsal import Changes
from agenthub.storage.bigquery.values import kept, table_of
from agenthub.storage.contract import DeleteWhere, Row, Table
from agenthub.storage.gate import GATE

TURNS: Final = "agenthub_turns"
TURN: Final = "commit"
_RECENT_CHARACTERS: Final = 2000
"""Of the names of recent commits that the turn remembers: some sixty."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The database at one moment: whose turn is next, which commits came last, the clock, and the rows that were looked up."""

    number: int
    recent: str
    clock: datetime
    rows: dict[str, tuple[Table, list[Row]]]

    @property
    def listened(self) -> bool:
        """Whether somebody is to hear of every change (storage/gate.py)."""
        return any(row["followed"] or row["exported"] for row in self.rows.get(GATE.name, (GATE, []))[1])


def reading(lookups: Lookups) -> tuple[str, Statement]:
    """The one select that answers the look-ups. A statement sees all tables as of its start."""
    statement = Statement("l")
    turn = statement.add(ScalarQueryParameter("turn", "STRING", TURN))
    parts = [
        "CURRENT_TIMESTAMP() AS clock",
        f"(SELECT t.number FROM {name_of(TURNS)} AS t WHERE t.name = {turn}) AS number",  # noqa: S608 - our own names
        f"(SELECT t.recent FROM {name_of(TURNS)} AS t WHERE t.name = {turn}) AS recent",  # noqa: S608
    ]
    for wanted in lookups:
        condition = _looked_up(statement, wanted)
        if condition:
            rows = f"SELECT AS STRUCT {columns_of(wanted.columns)} FROM {name_of(wanted.table)} AS t WHERE {condition}"  # noqa: S608
            parts.append(f"ARRAY({rows}) AS {_alias(wanted.table)}")
    return "SELECT " + ",\n".join(parts), statement


def _alias(table: Table) -> str:
    return f"`rows_{table.name}`"


def _looked_up(statement: Statement, wanted: Wanted) -> str:
    table = wanted.table
    conditions = []
    if wanted.keys:
        conditions.append(f"t.`{table.key}` IN UNNEST({statement.values(table.column(table.key), sorted(wanted.keys))})")
    for columns in table.unique:
        values = [values for group, values in wanted.taken if group == columns]
        if not values:
            continue
        if len(columns) == 1:
            conditions.append(f"t.`{columns[0]}` IN UNNEST({statement.values(table.column(columns[0]), [value for (value,) in values])})")
            continue
        rows = statement.add(table_of(statement.name(), [table.column(name) for name in columns], values))
        conditions.append(f"({', '.join(f't.`{name}`' for name in columns)}) IN UNNEST({rows})")
    conditions += [f"({owned(statement, table, write.tenant)} AND {holds(statement, table, write.where)})" for write in wanted.predicates]
    return " OR ".join(conditions)


def snapshot_of(row: dict[str, Any], lookups: Lookups) -> Snapshot:
    """What the read found.

    Raises: StorageUnavailable when the dataset was never migrated.
    """
    if row["number"] is None:
        raise StorageUnavailable("the dataset was not migrated: run `make migrate`", retry_after_seconds=60.0)
    rows = {}
    for wanted in lookups:
        found = row.get(_alias(wanted.table).strip("`")) or []
        rows[wanted.table.name] = wanted.table, [kept(wanted.columns, values) for values in found]
    return Snapshot(row["number"], row["recent"], row["clock"], rows)


def writing(snapshot: Snapshot, operation: str, changes: Sequence[Changes]) -> tuple[str, Statement]:
    """The transaction: take the turn that was seen, or change nothing; then each table's rows, counted.

    Two such transactions change the same row, so BigQuery lets one of them through; whoever comes later finds another number.
    """
    statement = Statement("w")
    steps = turn_steps(statement, TURN, snapshot.number, operation)
    for change in changes:
        steps += _steps(statement, change, snapshot.clock)
    return ";\n".join([*steps, "COMMIT TRANSACTION"]) + ";", statement


def turn_steps(statement: Statement, turn: str, seen: int, operation: str) -> list[str]:
    """The first statements of a transaction: move the turn from the number that was seen, or give up."""
    statement.add(ScalarQueryParameter("turn", "STRING", turn))
    statement.add(ScalarQueryParameter("seen", "INT64", seen))
    statement.add(ScalarQueryParameter("operation", "STRING", operation))
    take_turn = (
        f"UPDATE {name_of(TURNS)} AS t SET number = t.number + 1, moved_at = CURRENT_TIMESTAMP(),"  # noqa: S608 - our own names
        f" recent = SUBSTR(CONCAT(@operation, ' ', t.recent), 1, {_RECENT_CHARACTERS}) WHERE t.name = @turn AND t.number = @seen"
    )
    return ["BEGIN TRANSACTION", take_turn, _counted(1, MOVED)]


def _counted(number: int, message: str) -> str:
    return f"IF @@row_count != {number:d} THEN RAISE USING MESSAGE = '{message}'; END IF"


def _steps(statement: Statement, change: Changes, now: datetime) -> list[str]:
    """A table's statements. Where rows are removed by a condition, it goes first, on the rows as they were: a row that was looked
    up gets the state that it has in the end by its key.
    """
    if not change.predicates:
        return [
            *(_remove(statement, change.table, change.removed, counted=True) if change.removed else []),
            *(_replace(statement, change.table, change.replaced) if change.replaced else []),
            *(_add(statement, change.table, change.added) if change.added else []),
        ]
    table, rows = change.table, [*change.replaced, *change.added]
    touched = [*change.removed, *(row[table.key] for row in rows)]
    steps = [_remove_where(statement, predicate, now) for predicate in change.predicates]
    steps += _remove(statement, table, touched, counted=False) if touched else []
    return steps + (_add(statement, table, rows) if rows else [])


def _remove_where(statement: Statement, write: DeleteWhere, now: datetime) -> str:
    condition = f"{owned(statement, write.table, write.tenant)} AND {holds(statement, write.table, write.where, now)}"
    return f"DELETE FROM {name_of(write.table)} AS t WHERE {condition}"  # noqa: S608 - our own names, values are parameters


def _remove(statement: Statement, table: Table, keys: Sequence[str], *, counted: bool) -> list[str]:
    values = statement.values(table.column(table.key), keys)
    delete = f"DELETE FROM {name_of(table)} AS t WHERE t.`{table.key}` IN UNNEST({values})"  # noqa: S608 - our own names
    return [delete, _counted(len(keys), WRONG_COUNT)] if counted else [delete]


def _replace(statement: Statement, table: Table, rows: Sequence[Row]) -> list[str]:
    source = _rows(statement, table, rows)
    assignments = ", ".join(f"`{column.name}` = r.`{column.name}`" for column in table.columns if column.name != table.key)
    update = f"UPDATE {name_of(table)} AS t SET {assignments} FROM UNNEST({source}) AS r WHERE t.`{table.key}` = r.`{table.key}`"  # noqa: S608
    return [update, _counted(len(rows), WRONG_COUNT)]


def _add(statement: Statement, table: Table, rows: Sequence[Row]) -> list[str]:
    source = _rows(statement, table, rows)
    names = ", ".join(f"`{column.name}`" for column in table.columns)
    insert = f"INSERT INTO {name_of(table)} ({names}) SELECT {columns_of(table.columns, 'r')} FROM UNNEST({source}) AS r"  # noqa: S608
    return [insert, _counted(len(rows), WRONG_COUNT)]


def _rows(statement: Statement, table: Table, rows: Sequence[Row]) -> str:
    values = [[row[column.name] for column in table.columns] for row in rows]
    return statement.add(table_of(statement.name(), table.columns, values))
