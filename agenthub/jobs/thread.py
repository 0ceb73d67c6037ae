"""The runner of a server process: one thread beside the requests, so that the embedded default needs no second process."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from agenthub.core.errors import AgentHubError, StorageUnavailable
from agenthub.core.threads import give_way
from agenthub.core.types import TenantId
from agenthub.jobs.beside import Beside
from agenthub.jobs.contract import SLICE_SECONDS
from agenthub.jobs.runner import Runner
from agenthub.repositories.knowledge.jobs import Job, JobRepository
from agenthub.resources import Resources

_IDLE_SECONDS: Final = 2.0
"""How often a watching thread without work looks for jobs of others: uploads to other processes, and runners that died."""
_SWEEP_SECONDS: Final = 600.0
_FIRST_LOOK_SECONDS: Final = 0.01
_LONGEST_LOOK_SECONDS: Final = 0.25
_SHORT_WAIT_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 8.0
_log = logging.getLogger("agenthub.jobs")


class JobThread:
    """Works on jobs behind the requests of one process. All that it knows is in the database; it may die at any point.

    `start` makes it watch for ever, as servers do after their fork. A mere `notice` lets it work until no job is open.
    """

    def __init__(self, resources: Resources, *, enabled: bool) -> None:
        self._resources = resources
        self._enabled = enabled
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._beside = Beside(resources, self._stop, _IDLE_SECONDS, self._tell)
        self._thread: threading.Thread | None = None
        self._watching = False
        self._noticed = False
        self._patient = threading.BoundedSemaphore(max(1, resources.settings.web.thread_count // 2))

    def start(self) -> None:
        """Work and watch from now on. Never before a fork."""
        self._watching = True
        self.notice()

    def notice(self) -> None:
        """Say that there is a job; returns at once."""
        if not self._enabled or self._stop.is_set():
            return
        with self._changed:
            self._noticed = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        self._beside.notice()

    def wait(self, tenant_id: TenantId, job_id: str, seconds: float) -> Job:
        """The job when it has ended, whoever did it, or as it is after that time.

        Half of the process's threads may wait for as long as they were told; others give up after five seconds, so that long
        uploads don't keep searches from being answered. Raises: NotFound.
        """
        job = self._awaited(tenant_id, job_id, min(seconds, _SHORT_WAIT_SECONDS))
        if job.finished or seconds <= _SHORT_WAIT_SECONDS or not self._patient.acquire(blocking=False):
            return job
        try:
            return self._awaited(tenant_id, job_id, seconds - _SHORT_WAIT_SECONDS)
        finally:
            self._patient.release()

    def _awaited(self, tenant_id: TenantId, job_id: str, seconds: float) -> Job:
        jobs, end, pause = JobRepository(self._resources.storage), time.monotonic() + seconds, _FIRST_LOOK_SECONDS
        while True:
            job = jobs.get(tenant_id, job_id)
            remaining = end - time.monotonic()
            if job.finished or remaining <= 0:
                return job
            with self._changed:
                self._changed.wait(min(pause, remaining))
            pause = min(1.5 * pause, _LONGEST_LOOK_SECONDS)

    def stop(self) -> None:
        """Begin to end: no new step, and leases are given back."""
        self._stop.set()
        self._tell()
        self._beside.notice()

    def close(self) -> None:
        """End, waiting at most 8 seconds for the step under way."""
        end = time.monotonic() + _CLOSING_SECONDS
        self.stop()
        if self._thread is not None:
            self._thread.join(_CLOSING_SECONDS)
        self._beside.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        give_way()
        runner = Runner(self._resources)
        swept_seconds = time.monotonic()
        while not self._stop.is_set():
            self._noticed = False
            if self._worked(runner):
                continue
            if time.monotonic() - swept_seconds > _SWEEP_SECONDS:
                swept_seconds = time.monotonic()
                runner.tidy()
            if not self._goes_on(runner):
                return

    def _worked(self, runner: Runner) -> bool:
        try:
            worked = runner.run_once(SLICE_SECONDS, self._stop, during=self._beside.slice)
        except AgentHubError as error:
            _log.warning("no job could be taken: %s", error.message)
            return False
        except Exception:  # noqa: BLE001 - a worker loop: whatever it was, the next turn may do better
            _log.exception("no job could be taken")
            return False
        self._tell()
        return worked

    def _tell(self) -> None:
        """Let requests that wait for jobs look."""
        with self._changed:
            self._changed.notify_all()

    def _goes_on(self, runner: Runner) -> bool:
        """Wait until there may be work; False when this thread has ended, for nobody watches and nothing is open."""
        with self._changed:
            if not self._noticed and not self._stop.is_set():
                self._changed.wait(_IDLE_SECONDS if self._watching else _IDLE_SECONDS / 10)
        if self._noticed or self._watching or _anything_open(runner):
            return True
        with self._changed:
            if not self._noticed:
                self._thread = None
            return self._noticed


def _anything_open(runner: Runner) -> bool:
    try:
        return runner.queue.anything_open()
    except StorageUnavailable:
        return False
