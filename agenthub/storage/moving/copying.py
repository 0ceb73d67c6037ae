"""Copying every row of a storage into an empty one, resumably; then following the source's changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agenthub.core.errors import Conflict
from agenthub.core.failpoints import failpoint
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import Compare, DeleteWhere, Query, Row, Storage, Table, Write
from agenthub.storage.gate import CHANGES, Gate, read_gate, turn_gate
from agenthub.storage.moving.filling import End, Filling
from agenthub.storage.moving.putting import batches, put_rows
from agenthub.storage.moving.scanning import PAGE_ROWS, Comparison, Progress, compared, pages, unwatched
from agenthub.storage.moving.tables import MoveRow

FOLLOWED: Final = Compare("feed", "eq", "move")
MOST_SETTLED: Final = 10_000
"""Notes in one `drain`."""


@dataclass
class Move:
    """The move of all rows of these tables from one storage to another. Any step may be repeated by another process."""

    source: End
    target: End
    tables: Sequence[Table]
    progress: Progress = unwatched
    touched: set[tuple[str, str]] = field(default_factory=set)
    """Rows that were brought up to date since this was last emptied."""

    def copy(self, *, follow: bool) -> None:
        """Copy what is not copied yet; with `follow` the source notes its changes from before the first row is read.

        Raises: Conflict when the target has rows of its own or of another source; VersionConflict when another process
        moves to this target at the same time.
        """
        gate = self._source_gate()
        if follow and not gate.followed:
            gate = turn_gate(self.source.storage, gate, followed=True)
        filling = self._filling(gate)
        move = filling.begun()
        while move.phase == "copying":
            table = filling.table_of(move)
            for page in pages(self.source.storage, table, move.after_key):
                for batch in batches(table, page):
                    move = filling.batch(move, table, batch, self.source.storage)
                    self.progress(table.name, len(batch))
            move = filling.table_done(move)

    def drain(self) -> int:
        """Bring over what the source noted; how many notes that settled. Ends also if notes come faster than they are settled."""
        settled = 0
        while settled < MOST_SETTLED:
            notes = self.source.storage.find(CHANGES, EVERY_TENANT, Query(FOLLOWED, limit=PAGE_ROWS))
            if notes:
                self._apply(notes)
                failpoint("move.applied")
                done = tuple(note["id"] for note in notes)
                self.source.storage.commit([DeleteWhere(CHANGES, EVERY_TENANT, Compare("id", "in", done))])
            settled += len(notes)
            if len(notes) < PAGE_ROWS:
                break
        return settled

    def pending(self) -> int:
        """How many notes wait."""
        return self.source.storage.count(CHANGES, EVERY_TENANT, FOLLOWED)

    def compare(self) -> Comparison:
        """Both sides row by row, read while both may change."""
        return compared(self.source.storage, self.target.storage, self.tables, self.progress)

    def still_differing(self, rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of the rows that differ now."""
        found: list[tuple[str, str]] = []
        for table in self.tables:
            keys = [key for name, key in rows if name == table.name]
            for start in range(0, len(keys), PAGE_ROWS):
                some = keys[start : start + PAGE_ROWS]
                mine, theirs = (end.storage.get_many(table, EVERY_TENANT, some) for end in (self.source, self.target))
                found += [(table.name, key) for key in some if mine.get(key) != theirs.get(key)]
        return found

    def repair(self, rows: Sequence[tuple[str, str]]) -> None:
        """Bring these rows of the target to what the source says now."""
        for start in range(0, len(rows), PAGE_ROWS):
            self._apply([{"table_name": name, "row_key": key} for name, key in rows[start : start + PAGE_ROWS]])

    def row(self) -> MoveRow:
        """How far the move into this target is.

        Raises: Conflict when nobody moves this source to it.
        """
        return self._filling(read_gate(self.source.storage)).row()

    def finish(self) -> None:
        """End a copy that nobody will switch to: the target takes writes, the source notes no more changes."""
        self._filling(read_gate(self.source.storage)).opened()
        unfollow(self.source.storage)

    def _source_gate(self) -> Gate:
        gate = read_gate(self.source.storage)
        if gate.mode == "moved":
            raise Conflict(f"the rows of {self.source.name} moved ({gate.note}): what is there is out of date")
        if gate.deployment_id == read_gate(self.target.storage).deployment_id:
            raise Conflict("source and target are the same database")
        return gate

    def _filling(self, gate: Gate) -> Filling:
        return Filling(self.target, self.tables, gate.deployment_id, self.source.name)

    def _apply(self, notes: Sequence[Row]) -> None:
        for table in self.tables:
            keys = list(dict.fromkeys(note["row_key"] for note in notes if note["table_name"] == table.name))
            if not keys:
                continue
            around = self._around()  # before the source is read: of two that follow, the one with the older state fails
            now = self.source.storage.get_many(table, EVERY_TENANT, keys)
            self._put_all(table, list(now.values()), [key for key in keys if key not in now], around)
            self.touched |= {(table.name, key) for key in keys}

    def _put_all(self, table: Table, rows: Sequence[Row], gone: Sequence[str], around: Sequence[Write]) -> None:
        for number, part in enumerate(list(batches(table, rows)) or [[]]):
            writes = self._around() if number else around
            put_rows(self.target.storage, table, part, () if number else gone, writes, self.source.storage)

    def _around(self) -> list[Write]:
        filling = self._filling(read_gate(self.source.storage))
        return filling.step(filling.row())[0]


def unfollow(storage: Storage) -> None:
    """Note no more changes for a move, and forget those that were noted."""
    gate = read_gate(storage)
    if gate.followed:
        turn_gate(storage, gate, followed=False)
    storage.commit([DeleteWhere(CHANGES, EVERY_TENANT, FOLLOWED)])
