"""Answer shapes of health."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from agenthub.web.schema import Schema


class CheckOut(Schema):
    """One dependency in detail."""

    status: Literal["ok", "failing"]
    required: bool
    latency_ms: Annotated[float, Field(ge=0)]
    reason: Annotated[str | None, Field(description="What kind of error it was, or what a cache server refused; the log has more")]
    facts: Annotated[dict[str, Any], Field(description="What it is and holds")]


class ServiceOut(Schema):
    """A service of this process."""

    name: str
    prefixes: tuple[str, ...]
    status: Literal["ok", "failing"]


class BackendsOut(Schema):
    """What this process keeps its state in."""

    storage: str
    cache: str
    vector: str
    embedding: str


class HealthOut(Schema):
    """What is running, and how it is."""

    status: Literal["ok", "failing"]
    version: str
    started_at: datetime
    backends: BackendsOut
    services: tuple[ServiceOut, ...]
    checks: dict[str, CheckOut]
