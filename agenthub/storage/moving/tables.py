"""What moving keeps in the databases themselves, so that whoever comes next goes on where a killed process stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agenthub.storage.contract import Table

MOVE_ID: Final = "move"


@dataclass(frozen=True, slots=True)
class MoveRow:
    """At the target: where its rows come from and how far that is.

    `phase`: `checking` (is the target empty?), `copying` up to and including `after_key` of `table_name`, `copied`. Every commit of the
    move raises `version`, so of two that move at once one fails. `source_id` is the source's deployment or the backup's id.
    """

    id: str
    source_id: str
    source: str
    phase: str
    table_name: str
    after_key: str
    row_count: int
    started_at: datetime
    version: int = 1


MOVES: Final = Table.of("storage_moves", MoveRow, tenant=None)
