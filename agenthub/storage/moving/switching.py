"""The live switch-over: verify, pause writes for a moment, bring the rest over, shut the source and open the target.

Each step is a commit that names what it expects, so a process may be killed anywhere and another run of the same switch goes on,
or the pause runs out and the source serves as before. The only point of no return is the commit that marks the source as moved;
it needs the pause to be still in force. From the first write on, the target notes its changes for the way back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agenthub.core.errors import Conflict, VersionConflict
from agenthub.core.failpoints import failpoint
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.contract import DeleteWhere, Insert, Storage, Update, Write, eq
from agenthub.storage.gate import GATE, GATE_ID, Gate, open_gate, pause_writes, read_gate, still_held
from agenthub.storage.moving.canonical import Sum
from agenthub.storage.moving.copying import Move
from agenthub.storage.moving.filling import open_gate_with
from agenthub.storage.moving.tables import MOVE_ID, MOVES, MoveRow

PAUSE_SECONDS: Final = 60.0
"""How long writes are refused at most, if whoever paused them is not heard of again."""
FEW_NOTES: Final = 200
"""With no more left to bring over, the pause begins."""
MOST_TOUCHED: Final = 20_000
"""Rows that are compared once more during the pause."""
_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True)
class Switched:
    """What a switch did. `paused_seconds` is how long nobody could write; the sums are those of the verification before it."""

    paused_seconds: float
    repaired: int
    sums: Mapping[str, Sum]


def switch(move: Move, pause_seconds: float = PAUSE_SECONDS) -> Switched:
    """Switch over from the source to the target of a followed move.

    Raises: Conflict when there is no finished copy, the sides don't become equal, or the pause was too short: the source then goes on
    serving.
    """
    source = read_gate(move.source.storage)
    if source.mode == "moved":
        return _opened(move, source)
    if move.row().phase != "copied" or not source.followed:
        raise Conflict(f"{move.target.name} is not a followed copy of {move.source.name}: run `storage copy --follow` first")
    repaired, sums = _verified(move)
    started = time.monotonic()
    paused = pause_writes(move.source.storage, read_gate(move.source.storage), pause_seconds, f"switching over to {move.target.name}")
    failpoint("switch.paused")
    try:
        _settled(move)
        _shut(move, paused)
    except BaseException:
        _resume(move.source.storage, paused)
        raise
    _opened(move, read_gate(move.source.storage))
    return Switched(time.monotonic() - started, repaired, sums)


def _verified(move: Move) -> tuple[int, Mapping[str, Sum]]:
    """Compare every row while writes go on; few enough changes since then are left for the pause."""
    repaired = 0
    for _ in range(_ROUNDS):
        move.drain()
        move.touched.clear()
        seen = move.compare()
        suspects = list(seen.differing)
        for _ in range(_ROUNDS):
            move.drain()
            suspects = move.still_differing(suspects)
            if not suspects:
                break
        if suspects:
            repaired += len(suspects)
            move.repair(suspects)
            continue
        if _caught_up(move):
            return repaired, seen.one
    raise Conflict("the source changes faster than it can be followed, or the target keeps differing; nothing was switched")


def _caught_up(move: Move) -> bool:
    for _ in range(_ROUNDS):
        if len(move.touched) > MOST_TOUCHED:
            return False
        if move.pending() <= FEW_NOTES:
            return True
        move.drain()
    return False


def _settled(move: Move) -> None:
    """The rest, while nobody writes: then both sides are equal.

    Raises: Conflict when they are not.
    """
    while move.drain() or move.pending():
        pass
    counts = [(table.name, end.storage.count(table, EVERY_TENANT)) for end in (move.source, move.target) for table in move.tables]
    half = len(move.tables)
    unequal = {name for (name, mine), (_, theirs) in zip(counts[:half], counts[half:], strict=True) if mine != theirs}
    unequal |= {name for name, _ in move.still_differing(sorted(move.touched))}
    if unequal:
        raise Conflict(f"source and target differ in {', '.join(sorted(unequal))}: nothing was switched")


def _shut(move: Move, paused: Gate) -> None:
    """The point of no return: the source is marked as moved, and ready to be followed from the target.

    Raises: Conflict when the pause ran out before.
    """
    storage, target = move.source.storage, read_gate(move.target.storage)
    shut = {"mode": "moved", "until": None, "note": f"the rows moved to {move.target.name}", "followed": False}
    back = MoveRow(MOVE_ID, target.deployment_id, move.target.name, "copied", move.tables[-1].name, "", 0, storage.now())
    writes: list[Write] = [
        Update(GATE, EVERY_TENANT, GATE_ID, shut, paused.version, still_held(paused.token)),
        DeleteWhere(MOVES, EVERY_TENANT, eq(id=MOVE_ID)),
        Insert(MOVES, {name: getattr(back, name) for name in MoveRow.__dataclass_fields__}),
    ]
    try:
        storage.commit(writes)
    except VersionConflict as error:
        raise Conflict("the pause ran out before everything was brought over: nothing was switched") from error
    failpoint("switch.shut")


def _opened(move: Move, source: Gate) -> Switched:
    """Open the target, if the source is marked as moved to it; harmless when that was done before."""
    target = read_gate(move.target.storage)
    back = move.source.storage.get(MOVES, EVERY_TENANT, MOVE_ID)
    if source.mode != "moved" or back is None or back["source_id"] != target.deployment_id:
        raise Conflict(f"the rows of {move.source.name} did not move to {move.target.name}: {source.note}")
    mine = move.target.storage.get(MOVES, EVERY_TENANT, MOVE_ID)
    if mine is not None and mine["source_id"] == source.deployment_id:
        open_gate_with(move.target.storage, target, DeleteWhere(MOVES, EVERY_TENANT, eq(id=MOVE_ID)), followed=True)
    return Switched(0.0, 0, {})


def _resume(storage: Storage, paused: Gate) -> None:
    now = read_gate(storage)
    if now.mode == "paused" and now.token == paused.token:
        open_gate(storage, now)
