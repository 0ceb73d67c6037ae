"""The storage contract on BigQuery."""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from agenthub.core.errors import InvalidInput
from agenthub.storage.bigquery.client import Line
from agenthub.storage.bigquery.clock import CarriedClock
from agenthub.storage.bigquery.committing import Committer
from agenthub.storage.bigquery.compiling import Statement, columns_of, holds, name_of, owned, page
from agenthub.storage.bigquery.failures import Failure
from agenthub.storage.bigquery.lookups import Lookups
from agenthub.storage.bigquery.questions import asked
from agenthub.storage.bigquery.queue import CommitQueue
from agenthub.storage.bigquery.schema import TIME_TRAVEL_HOURS, Dataset
from agenthub.storage.bigquery.values import Parameter, received
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import (
    ALL,
    MAX_PAGE,
    MAX_WRITES,
    Filter,
    Insert,
    Query,
    Question,
    Row,
    RowReader,
    Storage,
    Table,
    TenantScope,
    Write,
)
from agenthub.storage.rows import storable_text

READ_TRIES: Final = 4
APPEND_ROWS: Final = 1000
_MOST_PAUSE_SECONDS: Final = 2.0
_random: Final = random.SystemRandom()


class BigQueryStorage(Storage):
    """Rows in a BigQuery dataset. Connects on first use, and anew in a forked child."""

    backend = "bigquery"

    def __init__(self, settings: BigQuerySettings) -> None:
        self.settings = settings
        self.line = Line(settings)
        self._clock = CarriedClock(self._read_clock)
        self._queue = CommitQueue(Committer(self.line, self._clock).work)
        self.own_schema: Dataset = Dataset(self.line, self.rows)
        _follow_forks(self)

    @property
    def commit_seconds(self) -> float:  # type: ignore[override]
        """How long a batch of commits takes lately; 0 before the first."""
        return self._queue.pace_seconds

    def get(self, table: Table, tenant: TenantScope, key: str) -> Row | None:
        return self.get_many(table, tenant, [key]).get(key)

    def get_many(self, table: Table, tenant: TenantScope, keys: Sequence[str]) -> dict[str, Row]:
        if len(keys) > MAX_PAGE:
            raise InvalidInput(f"at most {MAX_PAGE} keys at once")
        statement = Statement()
        belongs = owned(statement, table, tenant)
        wanted = [key for key in keys if storable_text(key)]
        if not wanted or belongs == "FALSE":
            return {}
        given = statement.values(table.column(table.key), wanted)
        rows = self._select(statement, table, f"{belongs} AND t.`{table.key}` IN UNNEST({given})")
        found = {row[table.key]: row for row in rows}
        return {key: found[key] for key in wanted if key in found}

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        statement = Statement()
        text = page(statement, table, tenant, query)
        return [received(table.columns, row) for row in self.rows(text, statement.parameters)]

    @contextmanager
    def at_one_moment(self) -> Iterator[RowReader]:
        yield _Past(self, self._read_clock())

    def page_at(self, table: Table, tenant: TenantScope, query: Query, moment: datetime) -> list[Row]:
        """A page of the rows as they were then, at most two days ago."""
        statement = Statement()
        text = page(statement, table, tenant, query, moment)
        return [received(table.columns, row) for row in self.rows(text, statement.parameters)]

    def count(self, table: Table, tenant: TenantScope, where: Filter = ALL) -> int:
        statement = Statement()
        conditions = f"{owned(statement, table, tenant)} AND {holds(statement, table, where)}"
        text = f"SELECT COUNT(*) AS number FROM {name_of(table)} AS t WHERE {conditions}"  # noqa: S608 - our own names
        return int(self.rows(text, statement.parameters)[0]["number"])

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        if not 1 <= len(writes) <= MAX_WRITES:
            raise InvalidInput(f"a commit holds 1 to {MAX_WRITES} writes")
        Lookups().add(writes)  # what can't be stored is refused here, in its own caller's thread
        return self._queue.commit(writes, self.line.end())

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), APPEND_ROWS):
            self.commit([Insert(table, row, ignore_existing=True) for row in rows[start : start + APPEND_ROWS]])

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        text, values = asked(question, parameters)
        return [received(question.columns, row) for row in self.rows(text, values)]

    def now(self) -> datetime:
        return self._clock.now()

    def ping(self) -> float:
        started = time.monotonic()
        self.rows("SELECT 1 AS one", [])
        return time.monotonic() - started

    def shred(self) -> tuple[str, ...]:
        return (
            f"BigQuery's time travel keeps deleted rows for {TIME_TRAVEL_HOURS} hours",
            "BigQuery's fail-safe storage keeps them seven days more, where only Google's support can reach them",
        )

    def close(self) -> None:
        self.line.close()

    def rows(self, text: str, parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
        """The rows of a read, done again after passing failures, within the time of one operation.

        Raises: StorageUnavailable.
        """
        end = self.line.end()
        for attempt in range(1, READ_TRIES + 1):
            try:
                return self.line.rows(text, parameters, end)
            except Failure as failure:
                pause = _random.uniform(0, min(_MOST_PAUSE_SECONDS, failure.pause_seconds * 2.0**attempt))
                if attempt == READ_TRIES or time.monotonic() + pause >= end:
                    raise failure.final() from failure
                time.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def renew_after_fork(self) -> None:
        """Leave the parent's connections, locks and callers to the parent."""
        self.line.renew_after_fork()
        self._clock.renew_after_fork()
        self._queue.renew_after_fork()

    def _select(self, statement: Statement, table: Table, condition: str) -> list[Row]:
        text = f"SELECT {columns_of(table.columns)} FROM {name_of(table)} AS t WHERE {condition}"  # noqa: S608 - our own names
        return [received(table.columns, row) for row in self.rows(text, statement.parameters)]

    def _read_clock(self) -> datetime:
        moment: datetime = self.rows("SELECT CURRENT_TIMESTAMP() AS clock", [])[0]["clock"]
        return moment


class _Past:
    """The rows of one moment, by BigQuery's time travel."""

    def __init__(self, storage: BigQueryStorage, moment: datetime) -> None:
        self._storage = storage
        self._moment = moment

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        return self._storage.page_at(table, tenant, query, self._moment)


def _follow_forks(storage: BigQueryStorage) -> None:
    reference = weakref.ref(storage)

    def renew() -> None:
        alive = reference()
        if alive is not None:
            alive.renew_after_fork()

    os.register_at_fork(after_in_child=renew)
