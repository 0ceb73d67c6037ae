"""Tables of the contract suite: each column type, NULLs, a unique pair, no tenant, no version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agenthub.core.errors import VersionConflict
from agenthub.core.types import TenantId
from agenthub.storage.contract import Storage, Table, TenantScope, Update


@dataclass(frozen=True, slots=True)
class Thing:
    id: str
    tenant_id: str
    name: str
    number: int
    weight: float
    active: bool
    made_at: datetime
    data: dict[str, Any]
    nickname: str | None = None
    rank: int | None = None
    share: float | None = None
    flag: bool | None = None
    until: datetime | None = None
    raw: bytes | None = None
    extra: list[Any] | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    tenant_id: str
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Global:
    id: str
    name: str
    count: int
    version: int = 1


THINGS = Table.of(
    "things",
    Thing,
    unique=[("tenant_id", "name"), ("tenant_id", "nickname", "rank")],
    indexes=[("tenant_id", "made_at"), ("tenant_id", "number", "id")],
)
EVENTS = Table.of("events", Event, indexes=[("tenant_id", "at")])
GLOBALS = Table.of("globals", Global, tenant=None, unique=[("name",)])
EVERYTHING = (THINGS, EVENTS, GLOBALS)

A = TenantId("a")
B = TenantId("b")
MOMENT = datetime(2026, 11, 23, 12, 34, 56, 789012, tzinfo=UTC)


def thing(key: str, tenant: str = "a", **columns: Any) -> dict[str, Any]:
    """A row of THINGS whose name is its key."""
    row = {
        "id": key,
        "tenant_id": tenant,
        "name": key,
        "number": 1,
        "weight": 1.0,
        "active": True,
        "made_at": MOMENT,
        "data": {},
        "nickname": None,
        "rank": None,
        "share": None,
        "flag": None,
        "until": None,
        "raw": None,
        "extra": None,
        "version": 1,
    }
    return {**row, **columns}


def examples(storage: Storage, number: int) -> int:
    """How many examples or rounds a test gets: fewer where one costs seconds of an emulator, not milliseconds of a database."""
    return max(2, number // 20) if storage.backend == "bigquery" else number


def event(key: str, tenant: str = "a", text: str = "") -> dict[str, Any]:
    """A row of EVENTS."""
    return {"id": key, "tenant_id": tenant, "at": MOMENT, "text": text}


def add_one(storage: Storage, tenant: TenantScope, key: str) -> int:
    """Raise `number` by one, by compare-and-set, as often as it takes; how many attempts lost."""
    losses = 0
    while True:
        row = storage.get(THINGS, tenant, key)
        assert row is not None
        try:
            storage.commit([Update(THINGS, tenant, key, {"number": row["number"] + 1}, expected_version=row["version"])])
        except VersionConflict:
            losses += 1
        else:
            return losses
