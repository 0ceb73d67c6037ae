"""Liveness, readiness and metrics: what platforms ask of every process, whichever services it serves."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from flask import Blueprint, Response, current_app, request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from agenthub.core.errors import AgentHubError, PermissionDenied, Unauthenticated
from agenthub.repositories.knowledge.job_queue import JobQueue
from agenthub.web.access import resources
from agenthub.web.answers import Answer
from agenthub.web.declare import public, returns, serves
from agenthub.web.guard import authenticate, bearer_token
from agenthub.web.metrics import Metrics, job_exposition, warehouse_exposition
from agenthub.web.readiness import Finding, Readiness
from agenthub.web.schema import Schema

READINESS: Final = "agenthub_readiness"
METRICS: Final = "agenthub_metrics"
probes = Blueprint("probes", __name__)


class LiveOut(Schema):
    """The process answers."""

    status: Literal["ok"]


class DependencyOut(Schema):
    """One dependency: whether it works and how long it took to tell."""

    status: Literal["ok", "failing"]
    latency_ms: Annotated[float, Field(ge=0)]


class ReadyOut(Schema):
    """Whether this process can do its work, with each dependency it needs."""

    status: Literal["ok", "failing"]
    checks: dict[str, DependencyOut]


@probes.get("/api/health/live")
@public("platforms ask before anyone can sign in")
@returns(LiveOut)
def live() -> Mapping[str, str]:
    """Whether the process answers. Touches nothing else."""
    return {"status": "ok"}


@probes.get("/api/health/ready")
@public("platforms ask before anyone can sign in")
@returns(ReadyOut, description="every required dependency works")
@returns(ReadyOut, status=503, description="a required dependency is failing")
def ready() -> Answer:
    """Whether this process can do its work: each dependency with its latency. 503 when a required one is failing."""
    readiness: Readiness = current_app.extensions[READINESS]
    findings = readiness.findings()
    ok = readiness.ready(findings)
    body = {"status": "ok" if ok else "failing", "checks": {name: dependency_of(finding) for name, finding in findings.items()}}
    return Answer(body, 200 if ok else 503, {} if ok else {"Retry-After": "1"})


def dependency_of(finding: Finding) -> dict[str, Any]:
    """A finding as `DependencyOut` shows it: no reason, no address."""
    return {"status": "ok" if finding.ok else "failing", "latency_ms": finding.latency_ms}


@probes.get("/metrics")
@public("guarded by itself: a scraper has AGENTHUB_METRICS_TOKEN, or runs on this machine")
@serves(CONTENT_TYPE_LATEST, "Prometheus' text format")
def metrics() -> Response:
    """Measurements for Prometheus.

    Readable with AGENTHUB_METRICS_TOKEN, or with a session token or API key that holds metrics:read; where no metrics token is
    set, also without a credential from this machine itself, unless through a proxy.
    """
    _admit_scraper()
    collected: Metrics = current_app.extensions[METRICS]
    return Response(collected.exposition() + _jobs() + _warehouse(), content_type=CONTENT_TYPE_LATEST)


def _jobs() -> bytes:
    """How jobs stand, where this process serves them and the database can be reached."""
    if "knowledge" in resources().needs:
        with suppress(AgentHubError):
            return job_exposition(JobQueue(resources().storage).standing())
    return b""


def _warehouse() -> bytes:
    """How far the warehouse is behind, where there is one and the database can be reached."""
    exporter = resources().exporter
    if exporter is not None:
        with suppress(AgentHubError):
            standing = exporter.standing()
            return warehouse_exposition(
                lag_seconds=standing.lag_seconds, behind_rows=standing.behind_rows, failing_seconds=standing.failing_seconds
            )
    return b""


def _admit_scraper() -> None:
    wanted, offered = resources().settings.web.metrics_token, bearer_token()
    if offered is None:
        if wanted is None and _from_this_machine():
            return
        raise Unauthenticated("this needs AGENTHUB_METRICS_TOKEN, or a token that holds metrics:read")
    if wanted is not None and hmac.compare_digest(offered.encode(), wanted.encode()):
        return
    if "metrics:read" not in authenticate().permissions:
        raise PermissionDenied("this needs the permission metrics:read")


def _from_this_machine() -> bool:
    """Whether the peer is this machine itself and no proxy says it speaks for another."""
    forwarded = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback and not any(name in request.headers for name in forwarded)
    except ValueError:
        return False
