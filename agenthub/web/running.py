"""What this process is, for the page at `/`, health, metrics and the line in the log at the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agenthub.registry import Service, needs_of
from agenthub.settings import Settings

RUNNING: Final = "agenthub_running"


@dataclass(frozen=True, slots=True)
class Backends:
    """The backends in use, by name; no addresses, no secrets."""

    storage: str
    cache: str
    vector: str
    embedding: str


@dataclass(frozen=True, slots=True)
class Running:
    """One process: since when, which services, which backends."""

    started_at: datetime
    services: tuple[Service, ...]
    backends: Backends
    default_owner: bool
    """Whether owner@agenthub.com / password opens this system: only on a fresh install that nobody else can reach."""


def running(settings: Settings, services: Sequence[Service], *, default_owner: bool) -> Running:
    """What a process with these settings and services is."""
    needs = needs_of(services)
    backends = Backends(
        storage=settings.storage.backend,
        cache=settings.cache.backend if "cache" in needs else "none",
        vector="none" if "knowledge" not in needs else "faiss" if settings.milvus is None else "milvus",
        embedding=settings.embedding.chosen if "embedders" in needs else "none",
    )
    return Running(datetime.now(UTC), tuple(services), backends, default_owner)
