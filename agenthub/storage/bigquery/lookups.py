"""What some commits need to know of the database before they can be tried: rows by key, and whose unique values are whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agenthub.storage.contract import Column, DbNow, DeleteWhere, Insert, Row, Table, Write
from agenthub.storage.gate import GATE, GATE_ID
from agenthub.storage.rows import storable_text, stored_row

Taken = tuple[tuple[str, ...], tuple[Any, ...]]
"""The columns of a unique set and values for them."""


@dataclass(slots=True)
class Wanted:
    """What is wanted of one table. Only keys and unique values are read unless `whole`."""

    table: Table
    whole: bool = False
    keys: set[str] = field(default_factory=set)
    taken: set[Taken] = field(default_factory=set)
    predicates: list[DeleteWhere] = field(default_factory=list)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns to read: for a table that is only added to, those that a new row could collide in."""
        if self.whole:
            return self.table.columns
        needed = {self.table.key, self.table.tenant, *(name for group in self.table.unique for name in group)}
        return tuple(column for column in self.table.columns if column.name in needed)


class Lookups:
    """The needs of several commits, by table."""

    def __init__(self) -> None:
        self._tables: dict[str, Wanted] = {}
        self._predicates: list[DeleteWhere] = []
        gate = self.of(GATE)  # every commit passes it
        gate.whole = True
        gate.keys.add(GATE_ID)

    def __iter__(self) -> Iterator[Wanted]:
        return iter(self._tables.values())

    def of(self, table: Table) -> Wanted:
        """The needs in one table, to be added to."""
        return self._tables.setdefault(table.name, Wanted(table))

    def add(self, writes: Sequence[Write]) -> None:
        """Add what these writes need.

        Raises: InvalidInput when a row to insert does not fit its table.
        """
        for write in writes:
            wanted = self.of(write.table)
            if isinstance(write, Insert):
                row = stored_row(write.table, write.row)
                wanted.keys.add(row[write.table.key])
                wanted.taken |= unique_values(write.table, row)
                continue
            wanted.whole = True
            if isinstance(write, DeleteWhere):
                self._predicates.append(write)
            if not isinstance(write, DeleteWhere) and storable_text(write.key):
                wanted.keys.add(write.key)

    def follow(self) -> bool:
        """Read the rows that conditions remove too, because somebody is to hear of each; whether there are new conditions."""
        for write in self._predicates:
            self.of(write.table).predicates.append(write)
        found, self._predicates = bool(self._predicates), []
        return found

    def lacks(self, table: Table, taken: set[Taken]) -> bool:
        """Add unique values that turned out to be needed; whether any is new."""
        wanted = self.of(table)
        new = taken - wanted.taken
        wanted.taken |= new
        return bool(new)


def unique_values(table: Table, row: Row) -> set[Taken]:
    """The unique values of a row, but for those that wait for the clock."""
    found = set()
    for columns in table.unique:
        values = tuple(row[column] for column in columns)
        if None not in values and not any(isinstance(value, DbNow) for value in values):
            found.add((columns, values))
    return found
