"""Reading whole tables in key order, a page at a time, and comparing two storages row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import Query, Row, RowReader, Table
from agenthub.storage.moving.canonical import Sum, Summing, encoded

PAGE_ROWS: Final = 500

Progress = Callable[[str, int], None]
"""Told the table and how many more of its rows were dealt with."""


def unwatched(_table: str, _rows: int) -> None:
    """Nobody looks at the progress."""


def pages(reader: RowReader, table: Table, after: str = "") -> Iterator[list[Row]]:
    """All rows whose key is greater than `after`, by key."""
    while True:
        rows = reader.find(table, EVERY_TENANT, Query(limit=PAGE_ROWS, after=(after,) if after else None))
        if rows:
            yield rows
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1][table.key]


def summed(reader: RowReader, tables: Sequence[Table], progress: Progress = unwatched) -> dict[str, Sum]:
    """The sums of these tables, by name."""
    sums: dict[str, Sum] = {}
    for table in tables:
        summing = Summing()
        for page in pages(reader, table):
            for row in page:
                summing.add(encoded(table, row))
            progress(table.name, len(page))
        sums[table.name] = summing.sum
    return sums


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two storages side by side: table and key of every row that only one has or that differs, and the sums of both."""

    differing: tuple[tuple[str, str], ...]
    one: Mapping[str, Sum]
    other: Mapping[str, Sum]


def compared(one: RowReader, other: RowReader, tables: Sequence[Table], progress: Progress = unwatched) -> Comparison:
    """The storages compared row by row, each read once."""
    found: list[tuple[str, str]] = []
    sums: tuple[dict[str, Sum], dict[str, Sum]] = ({}, {})
    for table in tables:
        mine, theirs = Summing(), Summing()
        left, right = _forms(one, table, mine, progress), _forms(other, table, theirs, unwatched)
        found += [(table.name, key) for key in _unequal(left, right)]
        sums[0][table.name], sums[1][table.name] = mine.sum, theirs.sum
    return Comparison(tuple(found), *sums)


_Forms = Iterator[tuple[str, bytes]]


def _unequal(left: _Forms, right: _Forms) -> Iterator[str]:
    """The keys that are in one only, or have two forms; both come in key order."""
    mine, theirs = next(left, None), next(right, None)
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine[0] < theirs[0]):
            yield mine[0] if mine is not None else ""
            mine = next(left, None)
        elif mine is None or theirs[0] < mine[0]:
            yield theirs[0]
            theirs = next(right, None)
        else:
            if mine[1] != theirs[1]:
                yield mine[0]
            mine, theirs = next(left, None), next(right, None)


def _forms(reader: RowReader, table: Table, summing: Summing, progress: Progress) -> _Forms:
    for page in pages(reader, table):
        for row in page:
            form = encoded(table, row)
            summing.add(form)
            yield row[table.key], form
        progress(table.name, len(page))
