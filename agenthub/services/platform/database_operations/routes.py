"""HTTP routes of the warehouse: how far it is behind, and the scheduler's push."""

from __future__ import annotations

from typing import Final

from flask import Blueprint

from agenthub.core.errors import Conflict
from agenthub.services.platform.database_operations.schemas import RunOut, RunQuery, WarehouseOut
from agenthub.web.access import resources
from agenthub.web.declare import refuses, requires, returns, takes

bp = Blueprint("database", __name__)
BLUEPRINTS: Final = (("/api/database", bp),)


@bp.get("/warehouse")
@requires("warehouse:read")
@returns(WarehouseOut)
def get_warehouse() -> WarehouseOut:
    """How far the warehouse is behind, and why."""
    exporter = resources().exporter
    if exporter is None:
        return WarehouseOut(
            configured=False, filled=False, behind_rows=0, lag_seconds=0.0, exported_rows=0, exported_at=None, tries=0, error=None
        )
    standing = exporter.standing()
    return WarehouseOut(
        configured=True,
        filled=standing.filled,
        behind_rows=standing.behind_rows,
        lag_seconds=standing.lag_seconds,
        exported_rows=standing.row_count,
        exported_at=standing.exported_at,
        tries=standing.tries,
        error=standing.error,
    )


@bp.post("/warehouse/run")
@requires("warehouse:run")
@takes(RunQuery)
@returns(RunOut)
@refuses("conflict")
def run_warehouse(query: RunQuery) -> RunOut:
    """Export events of the deployment for some time: for a scheduler, where no process may work between requests.

    409 where no warehouse is configured; 503 when it can't be reached, and the next try is the scheduler's.
    """
    exporter = resources().exporter
    if exporter is None:
        raise Conflict("there is no warehouse: DATABASE_URL and GOOGLE_CLOUD_PROJECT have to be set, both")
    exported = exporter.run(query.seconds, when_due=False)
    return RunOut(exported_rows=exported, behind_rows=exporter.standing().behind_rows)
