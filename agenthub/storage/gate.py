"""The gate that every commit passes: open, paused for a while, or shut for good because the rows moved (ADR 22).

The gate is one row beside the others. A backend looks at it inside each commit, so no write that the gate refuses takes effect,
whichever process it comes from and however long it was on its way. The same row says who is to hear of changes: while a feed
listens, a commit also writes one row of `storage_changes` for each row that it added, changed or removed.

What a backend does depends on the commit's lane:

- `open`, every ordinary commit: refused unless the gate is open; noted for the feeds.
- `turn`, a commit that changes the gate: waits until every commit that looked at the gate before is over.
- `own`, only tables of this file and of those who move rows, or a commit that requires the gate to be in a given state: passes
  a gate that is not open, and is not noted. Whoever paused writes this way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import AlreadyExists, WritesPaused
from agenthub.core.ids import new_id, random_name
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import And, Compare, DbNow, Filter, Insert, Or, Require, Row, Storage, Table, Update, Write

Mode = Literal["open", "paused", "moved"]
Lane = Literal["open", "own", "turn"]
Feed = Literal["move", "warehouse"]
GATE_ID: Final = "writes"
OWN_PREFIX: Final = "storage_"
PAUSED_RETRY_SECONDS: Final = 2.0
MOVED_RETRY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate's row. A pause is over at `until`, by the database's clock, whatever became of who asked for it.

    `token` is drawn by whoever paused. `followed`: every change is noted for a move. `exported`: the names, joined by commas, of
    the tables whose new rows are noted for the warehouse. `deployment_id` tells one database from another.
    """

    id: str
    mode: str
    token: str
    until: datetime | None
    note: str
    followed: bool
    exported: str
    deployment_id: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A row that a commit added, changed or removed, noted in that commit for one feed. `row_key` says which, not what."""

    id: str
    feed: str
    table_name: str
    row_key: str
    noted_at: datetime


GATE: Final = Table.of("storage_gate", Gate, tenant=None)
CHANGES: Final = Table.of("storage_changes", Change, tenant=None, indexes=[("feed", "id")])


@dataclass(frozen=True, slots=True)
class Seen:
    """The gate as a commit saw it. `lapsed`: its pause is over. `now` is the database's clock."""

    mode: str
    lapsed: bool
    note: str
    followed: bool
    exported: Collection[str]
    now: datetime

    @property
    def listened(self) -> bool:
        """Whether some feed wants to hear of changes."""
        return self.followed or bool(self.exported)

    def admit(self) -> None:
        """Return if an ordinary commit may pass.

        Raises: WritesPaused.
        """
        if self.mode == "moved":
            raise WritesPaused(self.note or "the rows moved to another database", retry_after_seconds=MOVED_RETRY_SECONDS)
        if self.mode == "paused" and not self.lapsed:
            raise WritesPaused(f"writes are paused: {self.note}", retry_after_seconds=PAUSED_RETRY_SECONDS)

    def notes(self, touched: Sequence[tuple[str, str]]) -> list[Row]:
        """The rows of `storage_changes` for the rows that a commit touched: pairs of table and key."""
        pairs = dict.fromkeys(touched)
        rows = [self._note("move", *pair) for pair in pairs] if self.followed else []
        return rows + [self._note("warehouse", *pair) for pair in pairs if pair[0] in self.exported]

    def _note(self, feed: Feed, table: str, key: str) -> Row:
        return {"id": new_id(), "feed": feed, "table_name": table, "row_key": key, "noted_at": self.now}


def seen(mode: str | None, lapsed: bool, note: str | None, followed: bool | None, exported: str | None, now: datetime) -> Seen:
    """The gate as read; None for a database where nobody ever turned it."""
    return Seen(mode or "open", lapsed, note or "", bool(followed), frozenset(filter(None, (exported or "").split(","))), now)


def lane_of(writes: Sequence[Write]) -> Lane:
    """How a commit meets the gate."""
    own = True
    for write in writes:
        name = write.table.name
        if name == GATE.name:
            return "own" if isinstance(write, Require) else "turn"
        own = own and name.startswith(OWN_PREFIX)
    return "own" if own else "open"


# --- turning it ---


def read_gate(storage: Storage) -> Gate:
    """The gate as it stands, made if this database has none yet."""
    row = storage.get(GATE, EVERY_TENANT, GATE_ID)
    while row is None:
        fresh = Gate(GATE_ID, "open", "", None, "", followed=False, exported="", deployment_id=random_name())
        with suppress(AlreadyExists):
            storage.commit([Insert(GATE, {name: getattr(fresh, name) for name in Gate.__dataclass_fields__})])
        row = storage.get(GATE, EVERY_TENANT, GATE_ID)
    return Gate(**row)


def check_serving(storage: Storage) -> str:
    """`open` or `paused`: what a process can do for its callers.

    Raises: StorageUnavailable when the rows moved to another database: what is here is out of date.
    """
    row = storage.get(GATE, EVERY_TENANT, GATE_ID)
    gate = Gate(**row) if row is not None else None
    if gate is None or gate.mode == "open" or (gate.until is not None and gate.until <= storage.now()):
        return "open"
    if gate.mode == "moved":
        raise WritesPaused(gate.note, retry_after_seconds=MOVED_RETRY_SECONDS)
    return gate.mode


def turn_gate(storage: Storage, before: Gate, where: Filter | None = None, **changes: Any) -> Gate:
    """Change the gate from what it was. Afterwards no commit that saw it as it was can still take effect.

    Raises: VersionConflict when somebody else turned it, or `where` doesn't hold.
    """
    condition = where or Compare("version", "ge", 1)
    row = storage.commit([Update(GATE, EVERY_TENANT, GATE_ID, changes, before.version, condition)])[0]
    return Gate(**_present(row))


def pause_writes(storage: Storage, before: Gate, seconds: float, note: str) -> Gate:
    """Refuse writes for so long. The token of the gate that is returned is what `held` asks for.

    Raises: VersionConflict when somebody else turned it meanwhile.
    """
    return turn_gate(storage, before, mode="paused", token=random_name(), until=DbNow(seconds), note=note)


def shut(before: Gate, note: str) -> Update:
    """The write that refuses all others until somebody opens the gate: for a database that is being filled."""
    changes = {"mode": "paused", "token": random_name(), "until": None, "note": note}
    return Update(GATE, EVERY_TENANT, GATE_ID, changes, expected_version=before.version)


def held(token: str) -> Require:
    """The condition that the gate is still shut by whoever drew this token, and its pause not over."""
    return Require(GATE, EVERY_TENANT, GATE_ID, still_held(token))


def still_held(token: str) -> Filter:
    """As `held`, for a commit that turns the gate itself."""
    return And((Compare("token", "eq", token), Or((Compare("until", "is_null"), Compare("until", "gt", DbNow())))))


def open_gate(storage: Storage, before: Gate, **changes: Any) -> Gate:
    """Let writes pass again.

    Raises: VersionConflict.
    """
    return turn_gate(storage, before, **{"mode": "open", "token": "", "until": None, "note": "", **changes})


def _present(row: Row | None) -> Row:
    if row is None:
        raise AssertionError("an update returns its row")
    return row
