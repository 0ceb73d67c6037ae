"""HTTP routes of health. Liveness and readiness, which every process answers, are in web/probes.py."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, current_app

from agenthub import __version__
from agenthub.services.platform.system_health.schemas import HealthOut
from agenthub.web.declare import requires, returns
from agenthub.web.probes import READINESS
from agenthub.web.readiness import Finding, Readiness
from agenthub.web.running import RUNNING, Running

bp = Blueprint("system_health", __name__)
BLUEPRINTS: Final = (("/api/health", bp),)


@bp.get("")
@requires("health:read")
@returns(HealthOut)
def get_health() -> dict[str, Any]:
    """What this process runs on: version, services, backends, and each dependency with its facts."""
    running: Running = current_app.extensions[RUNNING]
    readiness: Readiness = current_app.extensions[READINESS]
    findings = readiness.findings()
    return {
        "status": "ok" if readiness.ready(findings) else "failing",
        "version": __version__,
        "started_at": running.started_at,
        "backends": running.backends,
        "services": [
            {"name": s.name, "prefixes": s.prefixes, "status": "ok" if _works(s.needs, findings) else "failing"} for s in running.services
        ],
        "checks": {name: _check(finding, readiness.required(name)) for name, finding in findings.items()},
    }


_CHECK_OF_NEED: Final = {"storage": "storage", "knowledge": "volume", "embedders": "embedding"}


def _works(needs: frozenset[str], findings: dict[str, Finding]) -> bool:
    names = {_CHECK_OF_NEED[need] for need in needs if need in _CHECK_OF_NEED}
    return all(findings[name].ok for name in names & findings.keys())


def _check(finding: Finding, required: bool) -> dict[str, Any]:
    return {
        "status": "ok" if finding.ok else "failing",
        "required": required,
        "latency_ms": finding.latency_ms,
        "reason": finding.reason,
        "facts": finding.facts,
    }
