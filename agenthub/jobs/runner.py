"""A runner: takes the lease of the job whose turn it is, works a slice on it, and sees to it that every job ends."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

from agenthub.core.errors import (
    AgentHubError,
    FetchFailed,
    GenerationConflict,
    LeaseLost,
    ProviderFailure,
    RateLimited,
    StorageUnavailable,
    VectorEngineUnavailable,
    VolumeUnavailable,
)
from agenthub.core.failpoints import Failpoint, failpoint
from agenthub.core.heartbeat import Heartbeat
from agenthub.core.threads import ShortTurns
from agenthub.core.types import TenantId
from agenthub.jobs.contract import SLICE_SECONDS, Bench, Deadline
from agenthub.jobs.handlers import HANDLERS, handler_of
from agenthub.jobs.reasons import reason_of
from agenthub.repositories.knowledge.job_queue import JobQueue, Leased
from agenthub.resources import Resources

MOST_TRIES: Final = 20
"""Slices in a row without any progress after which a job has failed."""
LONGEST_STEP_SECONDS: Final = 300.0
"""How long after its deadline a slice is believed to be at work; then its lease is no longer renewed."""
_LONGEST_PAUSE_SECONDS: Final = 300.0
_PASSING: Final = (
    ProviderFailure,
    FetchFailed,
    VolumeUnavailable,
    VectorEngineUnavailable,
    StorageUnavailable,
    RateLimited,
    GenerationConflict,
    Failpoint,
)
_SHORT_TURNS: Final = ShortTurns()
_log = logging.getLogger("agenthub.jobs")


class Runner:
    """Runs slices, one at a time. Several runners, in any number of processes, keep out of each other's way by leases."""

    def __init__(self, resources: Resources, queue: JobQueue | None = None) -> None:
        self._resources = resources
        self.queue = queue or JobQueue(resources.storage, resources.settings.jobs.lease_seconds)
        self._together = {kind: handler_of(kind).together for kind in HANDLERS}

    def run_once(
        self,
        seconds: float = SLICE_SECONDS,
        stop: threading.Event | None = None,
        *,
        besides: TenantId | None = None,
        during: Callable[[TenantId], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> bool:
        """Run one slice of the job whose turn it is; False when none is due.

        `during` of its organization is around it. `besides`: only for another organization that no runner works for.
        Raises: StorageUnavailable when the database can't be reached.
        """
        leases = self.queue.take(self._together, besides=besides)
        if not leases:
            return False
        with during(TenantId(leases[0].job.tenant_id)):
            self._slice(leases, seconds, stop)
        return True

    def tidy(self) -> None:
        """Forget jobs whose retention is over."""
        with suppress(AgentHubError):
            self.queue.sweep()

    def _slice(self, leases: Sequence[Leased], seconds: float, stop: threading.Event | None) -> None:
        started = time.monotonic()
        deadline = Deadline(seconds, stop)
        every, most = self.queue.lease_seconds / 3, seconds + LONGEST_STEP_SECONDS
        with Heartbeat("job-lease", lambda: self.queue.renew(leases), every_seconds=every, most_seconds=most), _SHORT_TURNS:
            self._run(leases, deadline, started)
        self._resources.observer.time("job_slice", time.monotonic() - started, kind=leases[0].job.kind)

    def _run(self, leases: Sequence[Leased], deadline: Deadline, started: float) -> None:
        kind = leases[0].job.kind
        overdone = [leased for leased in leases if leased.job.tries > MOST_TRIES]
        if overdone:
            self._give_up(overdone)
            self._leave([leased for leased in leases if leased not in overdone], 0.0, frozenset())
            return
        try:
            complete = handler_of(kind)(Bench(self._resources, self.queue)).run_slice(leases, deadline)
        except LeaseLost as error:
            _log.info("slice of %s job given up: %s", kind, error.message)
            self._leave(leases, time.monotonic() - started, frozenset())
        except _PASSING as error:
            self._postpone(leases, error, time.monotonic() - started)
        except AgentHubError as error:
            for leased in leases:
                self.queue.fail(leased, *reason_of(error))
        except Exception as error:  # noqa: BLE001 - a worker loop: one job's trouble is not another's
            _log.exception("slice of %s job failed", kind)
            self._postpone(leases, error, time.monotonic() - started)
        else:
            self._leave(leases, time.monotonic() - started, complete)

    def _leave(self, leases: Sequence[Leased], seconds: float, complete: frozenset[str]) -> None:
        """Give the leases back; jobs of which nothing is left are ended."""
        failpoint("job.leave")
        for leased in leases:
            leave = self.queue.finish if leased.job.id in complete else self.queue.release
            leave(leased, seconds / len(leases))

    def _postpone(self, leases: Sequence[Leased], error: Exception, seconds: float) -> None:
        code, message = reason_of(error)
        asked = getattr(error, "retry_after_seconds", None) or 0.0
        for leased in leases:
            _log.warning("job %s postponed after try %d: %s", leased.job.id, leased.job.tries, message)
            self.queue.postpone(leased, lambda tries: max(asked, _pause_seconds(tries)), code, message, seconds / len(leases))

    def _give_up(self, leases: Sequence[Leased]) -> None:
        for leased in leases:
            job = leased.job
            message = job.error_message or f"{MOST_TRIES} tries in a row ended without progress: runners died or were cut off"
            _log.error("job %s has failed: %s", job.id, message)
            self.queue.fail(leased, job.error_code or "no_progress", message)


def _pause_seconds(tries: int) -> float:
    longest = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(tries, 10) / 2)
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter
