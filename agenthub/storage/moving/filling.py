"""Filling an empty storage while nobody else may write to it; every commit says how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agenthub.core.errors import Conflict
from agenthub.core.failpoints import failpoint
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import Delete, Insert, Query, Row, Storage, Table, Update, Write
from agenthub.storage.gate import GATE, GATE_ID, Gate, held, read_gate, shut
from agenthub.storage.moving.putting import put_rows
from agenthub.storage.moving.tables import MOVE_ID, MOVES, MoveRow


@dataclass(frozen=True, slots=True)
class End:
    """A storage that rows are moved from or to, and what to call it: without password."""

    storage: Storage
    name: str


@dataclass(frozen=True, slots=True)
class Filling:
    """Filling the target with the tables of one source, which `source_id` tells from all others."""

    target: End
    tables: Sequence[Table]
    source_id: str
    source_name: str

    def begun(self) -> MoveRow:
        """How far it is; if it has not begun, it begins: the target is shut, and found to be empty.

        Raises: Conflict when the target has rows of its own, or of another source.
        """
        storage = self.target.storage
        found = storage.get(MOVES, EVERY_TENANT, MOVE_ID)
        if found is None:
            gate = read_gate(storage)
            if gate.mode != "open":
                raise Conflict(f"{self.target.name} is {gate.mode}: {gate.note}")
            fresh = MoveRow(MOVE_ID, self.source_id, self.source_name, "checking", self.tables[0].name, "", 0, storage.now())
            found = {name: getattr(fresh, name) for name in MoveRow.__dataclass_fields__}
            storage.commit([shut(gate, f"rows are being brought here from {self.source_name}"), Insert(MOVES, found)])
        move = self._own(found)
        return self._checked(move) if move.phase == "checking" else move

    def row(self) -> MoveRow:
        """How far it is.

        Raises: Conflict when it has not begun.
        """
        found = self.target.storage.get(MOVES, EVERY_TENANT, MOVE_ID)
        if found is None:
            raise Conflict(f"{self.target.name} holds no copy of {self.source_name}")
        return self._own(found)

    def table_of(self, move: MoveRow) -> Table:
        """The table that is being filled."""
        return next(table for table in self.tables if table.name == move.table_name)

    def batch(self, move: MoveRow, table: Table, rows: Sequence[Row], source: Storage | None) -> MoveRow:
        """Add these rows, which come next in key order. `source` is asked about rows that turn out to be out of date.

        Raises: VersionConflict when another process fills the same target.
        """
        around, after = self.step(move, after_key=rows[-1][table.key], row_count=move.row_count + len(rows))
        failpoint("move.batch")
        put_rows(self.target.storage, table, rows, (), around, source)
        return after

    def table_done(self, move: MoveRow) -> MoveRow:
        """Go on to the next table; after the last one the phase is `copied`."""
        position = [table.name for table in self.tables].index(move.table_name) + 1
        if position == len(self.tables):
            return self._moved_on(move, phase="copied")
        return self._moved_on(move, table_name=self.tables[position].name, after_key="")

    def step(self, move: MoveRow, **changes: object) -> tuple[list[Write], MoveRow]:
        """The writes that stand before others in every commit of this filling, and how far it is then."""
        token = read_gate(self.target.storage).token
        values = {name: getattr(move, name) for name in MoveRow.__dataclass_fields__} | changes
        after = MoveRow(**{**values, "version": move.version + 1})
        return [held(token), Update(MOVES, EVERY_TENANT, MOVE_ID, changes, expected_version=move.version)], after

    def opened(self) -> None:
        """The target is whole: it takes writes from now on."""
        storage, move = self.target.storage, self.row()
        open_gate_with(storage, read_gate(storage), Delete(MOVES, EVERY_TENANT, MOVE_ID, expected_version=move.version))

    def _own(self, found: Row) -> MoveRow:
        if found["source_id"] != self.source_id:
            raise Conflict(f"{self.target.name} already holds a copy of {found['source']}")
        return MoveRow(**found)

    def _checked(self, move: MoveRow) -> MoveRow:
        filled = [table.name for table in self.tables if self.target.storage.find(table, EVERY_TENANT, Query(limit=1))]
        if filled:
            self.opened()
            raise Conflict(f"{self.target.name} is not empty ({', '.join(filled[:5])}): rows are only brought into an empty database")
        return self._moved_on(move, phase="copying")

    def _moved_on(self, move: MoveRow, **changes: object) -> MoveRow:
        around, after = self.step(move, **changes)
        self.target.storage.commit(around)
        return after


def open_gate_with(storage: Storage, gate: Gate, *writes: Write, **changes: object) -> None:
    """Open the gate in one commit with other writes of storage's own tables.

    Raises: VersionConflict when somebody turned the gate meanwhile.
    """
    opened = {"mode": "open", "token": "", "until": None, "note": "", **changes}
    storage.commit([Update(GATE, EVERY_TENANT, GATE_ID, opened, expected_version=gate.version), *writes])
