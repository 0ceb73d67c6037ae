"""Locks the rows of a commit in one order for all, where its own order could meet another commit head-on.

Without this two commits that change the same rows in opposite order deadlock, which PostgreSQL notices after a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import sqlalchemy as sa

from agenthub.storage.contract import Delete, Require, Table, Update
from agenthub.storage.rows import storable_text
from agenthub.storage.sql.tables import TableSet
from agenthub.storage.sql.writes import Step


def locks(steps: Sequence[Step], tables: TableSet) -> Iterator[sa.Select[tuple[str]]]:
    """The statements that take the locks first; none when the commit's own order is safe."""
    guarded = [step for step in steps if isinstance(step, Update | Delete | Require) and storable_text(step.key)]
    if _in_order(guarded):
        return
    wanted: dict[str, tuple[Table, set[str], set[str]]] = {}
    for step in guarded:
        _, changed, read = wanted.setdefault(step.table.name, (step.table, set(), set()))
        (read if isinstance(step, Require) else changed).add(step.key)
    for name in sorted(wanted):
        table, changed, read = wanted[name]
        key = tables[table].c[table.key]
        if changed:
            yield sa.select(key).where(key.in_(sorted(changed))).order_by(key).with_for_update(key_share=True)
        if read - changed:
            yield sa.select(key).where(key.in_(sorted(read - changed))).order_by(key).with_for_update(read=True)


def _in_order(guarded: Sequence[Update | Delete | Require]) -> bool:
    for earlier, later in pairwise(guarded):
        first, second = (earlier.table.name, earlier.key), (later.table.name, later.key)
        # Reading a row and then changing it asks for a stronger lock, which two commits would wait for from each other.
        if first > second or (first == second and isinstance(earlier, Require) and not isinstance(later, Require)):
            return False
    return True
