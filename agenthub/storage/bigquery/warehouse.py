"""The warehouse in BigQuery: events in tables of their own, each once, though BigQuery enforces no keys (ADR 25).

Each batch is one script, a transaction that first moves the warehouse's turn from the number that was seen, as commits do (ADR 21),
and then inserts the rows whose keys are not there. Two that run at once can't both move the turn, so what one found missing is still
missing when it inserts. The script is a job named after the batch and the turn: sent again, by whomever, BigQuery says that it exists.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from google.cloud.bigquery import ScalarQueryParameter

from agenthub.core.errors import StorageUnavailable
from agenthub.core.failpoints import failpoint
from agenthub.storage.bigquery.backend import BigQueryStorage
from agenthub.storage.bigquery.compiling import Statement, columns_of, name_of
from agenthub.storage.bigquery.failures import Failure, Lost
from agenthub.storage.bigquery.questions import asked
from agenthub.storage.bigquery.schema import day_of, first_turn
from agenthub.storage.bigquery.script import TURNS, turn_steps
from agenthub.storage.bigquery.values import received, table_of
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import Question, Row, Table
from agenthub.storage.warehouse.contract import Batch, Part, Warehouse

TURN: Final = "warehouse"
PREFIX: Final = "warehouse_"
"""Before the names of tables: the dataset may hold, or have held, a deployment's rows as well."""
_MOST_PAUSE_SECONDS: Final = 2.0
_random: Final = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class _Turn:
    """Whose turn is next, and the batches that came last."""

    number: int
    recent: str


def exported(table: Table) -> Table:
    """The table of the warehouse that a table's events go to."""
    return replace(table, name=f"{PREFIX}{table.name}", unique=())


class BigQueryWarehouse(Warehouse):
    """Events in a BigQuery dataset. Connects on first use, and anew in a forked child."""

    backend = "bigquery"

    def __init__(self, settings: BigQuerySettings) -> None:
        self._storage = BigQueryStorage(settings)

    def make(self, tables: Sequence[Table]) -> None:
        self._storage.own_schema.make_apart([exported(table) for table in tables], first_turn(TURN))

    def put(self, batch: Batch) -> None:
        line = self._storage.line
        end, attempt = line.end(), 0
        turn = self._turn()
        while True:
            operation = f"{batch.name}_{turn.number}"
            text, statement = _script(turn, operation, batch.parts)
            try:
                failpoint("warehouse.before_job")
                line.run(f"agenthub_warehouse_{operation}_{attempt}", text, statement.parameters, end)
                failpoint("warehouse.after_job")
                return
            except Failure as failure:
                pause = _random.uniform(0, min(_MOST_PAUSE_SECONDS, failure.pause_seconds * 2.0 ** (attempt + 1)))
                if time.monotonic() + pause >= end:
                    raise failure.final() from failure
                time.sleep(pause)
                now = self._turn()
                if operation in now.recent.split():
                    return
                # Without an answer the same job is sent again. One that has ended is over: the next one needs another name.
                attempt = 0 if now.number != turn.number else attempt if isinstance(failure, Lost) else attempt + 1
                turn = now

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        text, values = asked(question, parameters, "warehouse")
        return [received(question.columns, row) for row in self._storage.rows(text, values)]

    def count(self, table: Table) -> tuple[int, int]:
        """How many rows there are, and how many different keys: equal, or something is wrong."""
        name = name_of(exported(table))
        text = f"SELECT COUNT(*) AS number, COUNT(DISTINCT t.`{table.key}`) AS different FROM {name} AS t"  # noqa: S608 - our own names
        (row,) = self._storage.rows(text, [])
        return row["number"], row["different"]

    def close(self) -> None:
        self._storage.close()

    def _turn(self) -> _Turn:
        text = f"SELECT t.number, t.recent FROM {name_of(TURNS)} AS t WHERE t.name = @turn"  # noqa: S608 - our own name
        rows = self._storage.rows(text, [ScalarQueryParameter("turn", "STRING", TURN)])
        if not rows:
            raise StorageUnavailable("the warehouse was not made: run `make migrate`", retry_after_seconds=60.0)
        return _Turn(rows[0]["number"], rows[0]["recent"])


def _script(turn: _Turn, operation: str, parts: Sequence[Part]) -> tuple[str, Statement]:
    statement = Statement("w")
    steps = turn_steps(statement, TURN, turn.number, operation)
    steps += [_insert(statement, part) for part in parts]
    return ";\n".join([*steps, "COMMIT TRANSACTION"]) + ";", statement


def _insert(statement: Statement, part: Part) -> str:
    """Add those rows whose keys are not there; rows of the batch's days only are looked at."""
    table, columns = exported(part.table), part.table.columns
    source = statement.add(table_of(statement.name(), columns, [[row[column.name] for column in columns] for row in part.rows]))
    names = ", ".join(f"`{column.name}`" for column in columns)
    key = f"`{table.key}`"
    present = f"SELECT t.{key} FROM {name_of(table)} AS t WHERE t.{key} IN UNNEST({_keys(statement, part)}){_within(statement, part)}"  # noqa: S608
    return (
        f"INSERT INTO {name_of(table)} ({names}) SELECT {columns_of(columns, 'r')} FROM UNNEST({source}) AS r"  # noqa: S608 - our own names
        f" WHERE r.{key} NOT IN ({present})"
    )


def _keys(statement: Statement, part: Part) -> str:
    key = part.table.column(part.table.key)
    return statement.values(key, [row[key.name] for row in part.rows])


def _within(statement: Statement, part: Part) -> str:
    """The time of an event never changes, so one that is there already lies between the batch's first and last."""
    name = day_of(part.table)
    if name is None:
        return ""
    times: list[datetime] = [row[name] for row in part.rows]
    column = part.table.column(name)
    return f" AND t.`{name}` BETWEEN {statement.value(column, min(times))} AND {statement.value(column, max(times))}"
