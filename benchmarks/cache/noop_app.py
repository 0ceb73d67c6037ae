"""AgentHub with one more service, the no-op; served by `gunicorn -c config/gunicorn.py benchmarks.cache.noop_app:app`."""

from __future__ import annotations

import os

from agenthub import registry
from agenthub.factory import start

NOOP = registry.Service(
    "benchmark.noop", "benchmarks.cache.noop_routes:BLUEPRINTS", ("/api/noop",), frozenset({"storage", "cache"}), "No-op", "Does nothing."
)
registry.SERVICES = (*registry.SERVICES, NOOP)  # type: ignore[misc, assignment]
app = start({**os.environ, "AGENTHUB_HOST": os.environ.get("AGENTHUB_HOST") or "127.0.0.1"}, exit_status=3)
