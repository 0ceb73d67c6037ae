"""A Flask route that does nothing, under AgentHub's own gunicorn configuration: what the web stack alone costs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import Ingested, Kind
from benchmarks.peers.http_peer import HttpPeer
from benchmarks.peers.hub import AgentHub
from benchmarks.peers.processes import inherited
from benchmarks.peers.workload import Workload


class BareFlask(AgentHub):
    """Takes AgentHub's bodies and answers as many bytes as AgentHub does, always the same ones."""

    name = "flask"
    loads: frozenset[Kind] = frozenset({"single"})

    def __init__(self, scratch: Path, ingest_clients: int) -> None:
        HttpPeer.__init__(self, scratch, ingest_clients)

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        command = [sys.executable, "-m", "gunicorn", "-c", "config/gunicorn.py", "benchmarks.peers.flask_app:app"]
        return command, inherited() | {"PORT": str(self.port), "AGENTHUB_HOST": "127.0.0.1", "WEB_CONCURRENCY": "2"}

    def ingest(self, workload: Workload) -> Ingested | None:  # type: ignore[override]
        self.await_up("/live")
        self.prepare(workload)
        return None

    def tune(self, _workload: Workload) -> None:  # type: ignore[override]
        return None

    def search_path(self) -> str:
        return "/search"

    def found(self, answer: Any) -> list[list[int]]:
        return [list(range(len(answer["hits"])))]
