"""Whether the export goes on, as health tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agenthub.core.errors import WarehouseStuck
from agenthub.storage.warehouse.feed import Standing

FAILING_SECONDS: Final = 60.0
"""A failure that lasts longer is told."""
LONGEST_LAG_SECONDS: Final = 900.0
"""An older event that is not exported means that nobody exports."""


def facts_of(standing: Standing) -> Mapping[str, Any]:
    """How far the warehouse is behind.

    Raises: WarehouseStuck, with the reason, when it will stay so.
    """
    if standing.failing_seconds > FAILING_SECONDS:
        raise WarehouseStuck(
            f"nothing was exported for {standing.failing_seconds:.0f} seconds and {standing.tries} tries: {standing.error}"
            f" ({standing.behind_rows} rows wait)"
        )
    if standing.filled and standing.lag_seconds > LONGEST_LAG_SECONDS:
        raise WarehouseStuck(
            f"the oldest of {standing.behind_rows} events has waited for {standing.lag_seconds:.0f} seconds: no process exports"
            " (AGENTHUB_WAREHOUSE is off everywhere, or `warehouse run` is not scheduled)"
        )
    return {
        "filled": standing.filled,
        "behind_rows": standing.behind_rows,
        "lag_seconds": round(standing.lag_seconds, 3),
        "exported_rows": standing.row_count,
        "exported_at": standing.exported_at,
    }
