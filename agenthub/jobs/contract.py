"""What a kind of job has to do, and how long it may take for it (docs/adr/0018)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from agenthub.repositories.knowledge.job_queue import JobQueue, Leased
from agenthub.resources import Resources

SLICE_SECONDS: Final = 30.0
"""How long a runner works on a job before it looks whose turn it is; a step under way is ended first."""


class Deadline:
    """Until when a slice may go on. It also ends when the runner is asked to stop."""

    def __init__(self, seconds: float, stop: threading.Event | None = None) -> None:
        self._end = time.monotonic() + seconds
        self._stop = stop or threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether the runner was asked to stop: give up at the next point where nothing is lost."""
        return self._stop.is_set()

    @property
    def passed(self) -> bool:
        """Whether no new step may be begun."""
        return self._stop.is_set() or time.monotonic() >= self._end

    def remaining(self) -> float:
        """Seconds until it passes; 0 from then on."""
        return 0.0 if self._stop.is_set() else max(0.0, self._end - time.monotonic())


@dataclass(frozen=True, slots=True)
class Bench:
    """What a handler works with: the process's engines and the queue that its leases are of."""

    resources: Resources
    queue: JobQueue


class Handler(Protocol):
    """One kind of job. Made anew for each slice, so it may keep what it wants on itself."""

    together: ClassVar[int]
    """How many items of several waiting jobs of one knowledge base one slice may have. 1: a slice is of one job."""

    def __init__(self, bench: Bench) -> None: ...

    def run_slice(self, leases: Sequence[Leased], deadline: Deadline) -> frozenset[str]:
        """Work until nothing is left or the deadline passed; the ids of those jobs for which nothing is left to do.

        Every commit carries `held(leased)` of the jobs it is for and says what it did, so that whoever comes next goes on from
        there, whenever this process ends. A certain failure of one item is a final status of the item, never an exception.

        Raises: LeaseLost when a job was taken away, and then nothing more is written; ProviderFailure, VolumeUnavailable,
        VectorEngineUnavailable, StorageUnavailable, RateLimited or GenerationConflict when it may succeed later: the jobs are
        postponed, longer with each time, and end as `failed` after twenty without progress. Any other AgentHubError ends the
        jobs as `failed`.
        """
        ...
