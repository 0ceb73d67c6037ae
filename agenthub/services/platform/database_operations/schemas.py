"""Shapes of the warehouse's state."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from agenthub.web.schema import Schema


class WarehouseOut(Schema):
    """How the export of events stands. `filled`: what was there before it began is in the warehouse, which answers from then on."""

    configured: bool
    filled: bool
    behind_rows: Annotated[int, Field(ge=0, description="Events that are not in the warehouse")]
    lag_seconds: Annotated[float, Field(ge=0, description="How long the oldest of them has waited")]
    exported_rows: Annotated[int, Field(ge=0)]
    exported_at: datetime | None
    tries: Annotated[int, Field(ge=0, description="How often in a row it failed")]
    error: Annotated[str | None, Field(description="Why it failed the last time; null when it works")]


class RunQuery(Schema):
    """How long to export."""

    seconds: Annotated[float, Field(ge=0, le=240, description="no new batch is begun after this time")] = 50


class RunOut(Schema):
    """What a call of the scheduler did. `exported_rows` is null when another process was at work."""

    exported_rows: int | None
    behind_rows: int
