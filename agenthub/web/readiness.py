"""Whether each dependency of this process works, asked seldom enough that asking does no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from agenthub.core.errors import AgentHubError, CacheUnavailable, WarehouseStuck
from agenthub.resources import Resources

_PATIENCE_SECONDS: Final = 3.0
_log = structlog.get_logger("agenthub.health")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `facts` are for those who may see details; nothing in them is secret."""

    ok: bool
    latency_ms: float
    reason: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Check:
    """One dependency. The finding is kept for `fresh_seconds`; one thread looks, others wait a little for its finding."""

    def __init__(self, look: Callable[[], Mapping[str, Any]], *, fresh_seconds: float, required: bool = True) -> None:
        self.required = required
        self._look = look
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._seen: Finding | None = None
        self._seen_at = 0.0

    def finding(self) -> Finding:
        """What was seen last, or now. A look that doesn't end in 3 seconds counts as failing for those who wait."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return Finding(False, _PATIENCE_SECONDS * 1000, "no answer yet")
        try:
            if self._seen is None or time.monotonic() - self._seen_at >= self._fresh_seconds:
                self._seen = self._examine()
                self._seen_at = time.monotonic()
            return self._seen
        finally:
            self._lock.release()

    def _examine(self) -> Finding:
        started = time.perf_counter()
        try:
            facts = self._look()
        except (AgentHubError, OSError) as error:
            _log.warning("dependency failing", error=repr(error))
            # What cache servers and the warehouse refuse is said in words of our own; other messages may hold an address or a credential.
            reason = error.message if isinstance(error, CacheUnavailable | WarehouseStuck) else type(error).__name__
            return Finding(False, _elapsed_ms(started), reason)
        return Finding(True, _elapsed_ms(started), None, facts)


def _elapsed_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


class Readiness:
    """All checks of this process, by dependency."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def findings(self) -> dict[str, Finding]:
        """What each check saw."""
        return {name: check.finding() for name, check in self._checks.items()}

    def required(self, name: str) -> bool:
        """Whether the process can't do its work without this dependency."""
        return self._checks[name].required

    def ready(self, findings: Mapping[str, Finding]) -> bool:
        """Whether every required dependency works."""
        return all(findings[name].ok for name, check in self._checks.items() if check.required)


def readiness_of(resources: Resources) -> Readiness:
    """The checks of what this process has been told to use. Nothing is touched before the first question."""
    checks = {"storage": Check(resources.check_storage, fresh_seconds=1.0)}
    if "knowledge" in resources.needs:
        checks["volume"] = Check(resources.check_volume, fresh_seconds=10.0)
        if resources.settings.milvus is not None:
            checks["vectors"] = Check(resources.check_vectors, fresh_seconds=5.0)
    if "cache" in resources.needs:
        checks["cache"] = Check(resources.check_cache, fresh_seconds=5.0, required=False)
    if "embedders" in resources.needs:
        checks["embedding"] = Check(resources.check_embedding, fresh_seconds=30.0)
    if resources.settings.warehouse is not None:
        checks["warehouse"] = Check(resources.check_warehouse, fresh_seconds=5.0, required=False)
    return Readiness(checks)
