"""Bringing rows of a target to what the source says, whatever the target has in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from agenthub.core.errors import AlreadyExists, Conflict
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import And, Compare, DeleteWhere, Insert, Query, Row, Storage, Table, Write, eq
from agenthub.storage.moving.canonical import encoded

BATCH_BYTES: Final = 4 * 1024 * 1024
_ROUNDS: Final = 20


def batches(table: Table, rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in order, in lists of at most 4 MiB (or one row)."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        length = len(encoded(table, row))
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def put_rows(
    target: Storage, table: Table, rows: Sequence[Row], gone: Sequence[str], around: Sequence[Write], source: Storage | None
) -> None:
    """Make the target's rows of these keys what is given, and remove those that are `gone`, in one commit with `around`.

    A row elsewhere in the target that still has a unique value which one of these has now is out of date: it is brought up to
    date from the source in the same commit. Raises: Conflict when that leads nowhere.
    """
    states: dict[str, Row | None] = {row[table.key]: row for row in rows} | dict.fromkeys(gone)
    for _ in range(_ROUNDS):
        keys = tuple(states)
        removal = [DeleteWhere(table, EVERY_TENANT, Compare(table.key, "in", keys))] if keys else []
        inserts = [Insert(table, row) for row in states.values() if row is not None]
        try:
            target.commit([*around, *removal, *inserts])
        except AlreadyExists:
            if source is None:
                raise
            in_the_way = {key for row in states.values() if row is not None for key in _in_its_way(target, table, row)}
            wanted = sorted(states.keys() | in_the_way)
            now = source.get_many(table, EVERY_TENANT, wanted)  # in one read: states of different moments may exclude one another
            states = {key: now.get(key) for key in wanted}
        else:
            return
    raise Conflict(f"rows of {table.name} keep taking one another's unique values; try again")


def _in_its_way(target: Storage, table: Table, row: Row) -> Iterator[str]:
    """The keys of other rows of the target that have a unique value of this one."""
    for columns in table.unique:
        values = {column: row[column] for column in columns}
        if None in values.values():
            continue
        where = And((eq(**values), Compare(table.key, "ne", row[table.key])))
        yield from (found[table.key] for found in target.find(table, EVERY_TENANT, Query(where, limit=1)))
