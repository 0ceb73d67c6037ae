"""Commits tried on the rows that they touch, by the rules of the memory backend; what changed is what has to be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agenthub.core.errors import AgentHubError
from agenthub.storage.bigquery.lookups import Lookups, Taken
from agenthub.storage.contract import DeleteWhere, Row, Table, Write
from agenthub.storage.memory import MemoryStorage, Shelf

Outcome = list[Row | None] | AgentHubError


@dataclass(slots=True)
class Changes:
    """What has to become of one table: keys to remove, rows to replace and rows to add, each as the memory backend keeps it."""

    table: Table
    predicates: list[DeleteWhere] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    replaced: list[Row] = field(default_factory=list)
    added: list[Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.predicates or self.removed or self.replaced or self.added)


@dataclass(slots=True)
class _Stopped:
    """A clock that stands still: the database's, as the rows were read."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


@dataclass(slots=True)
class _Asking(Shelf):
    """A shelf that notes which unique values it was asked for."""

    asked: set[Taken] = field(default_factory=set)
    before: dict[str, dict[str, Any]] = field(default_factory=dict)

    def unique_values(self, row: Row) -> Iterator[Taken]:
        for taken in Shelf.unique_values(self, row):
            self.asked.add(taken)
            yield taken

    def begin(self) -> None:
        """What is here now is what the database holds."""
        self.before = dict(self.rows)
        self.asked = set()


class Rehearsal(MemoryStorage):
    """Rows of one moment of the database, and commits tried on them one after the other."""

    backend = "rehearsal"

    def __init__(self, moment: datetime, rows: Mapping[str, tuple[Table, Sequence[Row]]]) -> None:
        super().__init__(_Stopped(moment))
        self._asking: dict[str, _Asking] = {}
        self._predicates: list[DeleteWhere] = []
        for table, found in rows.values():
            shelf = self._asking.setdefault(table.name, _Asking(table))
            for row in found:
                shelf.put(dict(row))
            shelf.begin()

    def tried(self, writes: Sequence[Write]) -> Outcome:
        """What the commit answers; when it fails, it leaves nothing behind here."""
        try:
            results = self.commit(writes)
        except AgentHubError as error:
            return error
        self._predicates += [write for write in writes if isinstance(write, DeleteWhere)]
        return results

    def lacks(self, lookups: Lookups) -> bool:
        """Whether some unique values were needed whose holders had not been looked up; they are added to the look-ups."""
        missing = [lookups.lacks(shelf.table, shelf.asked - _held(shelf)) for shelf in self._asking.values()]
        return any(missing)

    def changes(self) -> list[Changes]:
        """What the commits that did not fail change, table by table."""
        return [changes for shelf in self._asking.values() if (changes := self._changes(shelf))]

    def _changes(self, shelf: _Asking) -> Changes:
        table, before, after = shelf.table, shelf.before, shelf.rows
        result = Changes(table, [write for write in self._predicates if write.table.name == table.name])
        result.removed = [key for key in before if key not in after]
        for key, row in after.items():
            if key not in before:
                result.added.append(row)
            elif row is not before[key]:
                result.replaced.append(row)
        return result

    def _shelf(self, table: Table) -> Shelf:
        return self._asking.setdefault(table.name, _Asking(table))


def _held(shelf: _Asking) -> set[Taken]:
    """The unique values of the rows that were read: who holds those is known."""
    return {taken for row in shelf.before.values() for taken in Shelf.unique_values(shelf, row)}
