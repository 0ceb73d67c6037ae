"""Jobs of the kind `upload`: documents that came in a request, whose originals are on the volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from agenthub.jobs.contract import Bench, Deadline
from agenthub.jobs.pipeline import Pipeline
from agenthub.repositories.knowledge.job_queue import Leased


class UploadHandler:
    """Implements `Handler`. Many small uploads share a slice, and so a generation."""

    together: ClassVar[int] = 64

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run_slice(self, leases: Sequence[Leased], deadline: Deadline) -> frozenset[str]:
        """See `Handler.run_slice`."""
        return Pipeline(self._bench, leases, deadline).run()
