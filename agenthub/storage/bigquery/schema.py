"""The dataset and its tables: made and brought up to a release by `make migrate`, never by a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.api_core.exceptions import Conflict, GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery import ScalarQueryParameter

from agenthub.core import json
from agenthub.core.errors import StorageUnavailable
from agenthub.storage.bigquery.client import CALL_SECONDS, NO_RETRY, Line
from agenthub.storage.bigquery.compiling import name_of
from agenthub.storage.bigquery.script import TURN, TURNS
from agenthub.storage.bigquery.values import TYPES, Parameter
from agenthub.storage.contract import Column, ColumnType, OwnSchema, Table
from agenthub.storage.gate import CHANGES, GATE

REVISIONS: Final = "agenthub_revisions"
TIME_TRAVEL_HOURS: Final = 48
"""How long BigQuery keeps what was deleted or changed: the least it offers, because erased means erased."""

_REST: Final = "recent STRING NOT NULL, moved_at TIMESTAMP NOT NULL"
_OWN_TABLES: Final = (
    f"CREATE TABLE IF NOT EXISTS {name_of(TURNS)} (name STRING NOT NULL, number INT64 NOT NULL, {_REST})",
    f"CREATE TABLE IF NOT EXISTS {name_of(REVISIONS)} (revision STRING NOT NULL, reached_at TIMESTAMP NOT NULL)",
)
_ZEROS: Final = {
    ColumnType.TEXT: "''",
    ColumnType.INTEGER: "0",
    ColumnType.REAL: "0.0",
    ColumnType.BOOLEAN: "FALSE",
    ColumnType.JSON: "'{}'",
    ColumnType.BYTES: "b''",
    ColumnType.TIMESTAMP: "CURRENT_TIMESTAMP()",
}


def first_turn(name: str) -> str:
    """The statement that makes the turn of that name. One statement, so that two that start it at once don't leave two rows: a MERGE
    gives way to another one.
    """
    return (
        f"MERGE {name_of(TURNS)} AS t USING (SELECT '{name}' AS name) AS s ON t.name = s.name WHEN NOT MATCHED THEN"  # noqa: S608
        " INSERT (name, number, recent, moved_at) VALUES (s.name, 0, '', CURRENT_TIMESTAMP())"
    )


class Dataset(OwnSchema):
    """The dataset's tables. `rows` runs a statement with the backend's retries."""

    def __init__(self, line: Line, rows: Callable[[str, Sequence[Parameter]], list[dict[str, Any]]]) -> None:
        self._line = line
        self._rows = rows

    def bring_to(self, tables: Sequence[Table], revision: str) -> None:
        self.make(tables)
        script = (
            f"IF NOT EXISTS (SELECT 1 FROM {name_of(REVISIONS)} WHERE revision = @revision) THEN"  # noqa: S608 - our own names
            f" INSERT INTO {name_of(REVISIONS)} (revision, reached_at) VALUES (@revision, CURRENT_TIMESTAMP()); END IF;"
        )
        self._rows(script, [ScalarQueryParameter("revision", "STRING", revision)])

    def make(self, tables: Sequence[Table]) -> None:
        self.make_apart([GATE, CHANGES, *tables], first_turn(TURN))

    def make_apart(self, tables: Sequence[Table], last: str) -> None:
        """Make the dataset and what is missing of these tables, then run `last`. Safe to repeat. Raises: StorageUnavailable."""
        self._make_dataset()
        present = self._present()
        steps = list(_OWN_TABLES)
        for table in {table.name: table for table in tables}.values():
            there = present.get(table.name)
            steps += [_created(table)] if there is None else _extended(table, [c for c in table.columns if c.name not in there])
        self._rows(";\n".join([*steps, last]) + ";", [])

    def revision(self) -> str | None:
        if REVISIONS not in self._present():
            return None
        rows = self._rows(f"SELECT MAX(t.revision) AS newest FROM {name_of(REVISIONS)} AS t", [])  # noqa: S608 - our own name
        newest: str | None = rows[0]["newest"]
        return newest

    def _make_dataset(self) -> None:
        dataset = bigquery.Dataset(self._line.dataset)
        dataset.location = self._line.settings.location
        dataset.description = "AgentHub's rows, written by AgentHub only"
        dataset.max_time_travel_hours = TIME_TRAVEL_HOURS
        try:
            self._line.client().create_dataset(dataset, timeout=CALL_SECONDS, retry=NO_RETRY)
        except Conflict:
            return
        except (GoogleAPICallError, GoogleAuthError, OSError) as error:
            raise StorageUnavailable(f"the dataset {self._line.dataset} can't be made: {error}") from error

    def _present(self) -> dict[str, set[str]]:
        """The columns of each table that is there; empty when the dataset isn't."""
        try:
            rows = self._rows("SELECT table_name, column_name FROM INFORMATION_SCHEMA.COLUMNS", [])
        except StorageUnavailable as error:
            if "not found" in error.message.lower():
                return {}
            raise
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        return found


def _created(table: Table) -> str:
    columns = ", ".join(f"`{column.name}` {TYPES[column.type]}{'' if column.nullable else ' NOT NULL'}" for column in table.columns)
    day = day_of(table)
    parts = [f"CREATE TABLE IF NOT EXISTS {name_of(table)} ({columns})"]
    parts += [f"PARTITION BY TIMESTAMP_TRUNC(`{day}`, DAY)"] if day else []
    clusters = [name for name in (table.tenant, table.key) if name]
    return " ".join([*parts, f"CLUSTER BY {', '.join(f'`{name}`' for name in clusters)}"])


def day_of(table: Table) -> str | None:
    """The time that a table of events is divided by: one without versions, indexed by tenant and time."""
    if table.versioned:
        return None
    for columns in table.indexes:
        for name in columns:
            column = table.column(name)
            if column.type is ColumnType.TIMESTAMP and not column.nullable:
                return name
    return None


def _extended(table: Table, missing: Sequence[Column]) -> list[str]:
    """A column can only be added as one that may be NULL; the rows that are there get its default."""
    steps = [f"ALTER TABLE {name_of(table)} ADD COLUMN IF NOT EXISTS `{column.name}` {TYPES[column.type]}" for column in missing]
    filled = [f"`{column.name}` = {_initial(column)}" for column in missing if not column.nullable]
    if filled:
        first = next(column.name for column in missing if not column.nullable)
        steps.append(f"UPDATE {name_of(table)} SET {', '.join(filled)} WHERE `{first}` IS NULL")  # noqa: S608 - our own names
    return steps


def _initial(column: Column) -> str:
    """The column's default as a literal: it comes from our own code, and a parameter can't be in a script's DDL."""
    return _ZEROS[column.type] if column.default is None else json.dumps(column.default).decode()
