"""A second runner for the length of a slice: whoever nobody works for need not wait until a file that takes long has been read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agenthub.core.errors import AgentHubError
from agenthub.core.threads import give_way
from agenthub.core.types import TenantId
from agenthub.jobs.contract import SLICE_SECONDS
from agenthub.jobs.runner import Runner
from agenthub.resources import Resources

_log = logging.getLogger("agenthub.jobs")


class Beside:
    """Works, while the first runner of this process is in a slice, on jobs of organizations that no runner works for.

    So what one organization sends holds up its own jobs only, however long its files take. There is one such runner a process, so two
    files may be read at once. It ends a slice like any other, also when the first runner is at hand again.
    """

    def __init__(self, resources: Resources, stop: threading.Event, pause_seconds: float, worked: Callable[[], None]) -> None:
        """It looks for jobs that came to other processes every `pause_seconds`; `worked` is called after each slice of its own."""
        self._resources = resources
        self._told = worked
        self._stop = stop
        self._pause_seconds = pause_seconds
        self._changed = threading.Condition()
        self._served: TenantId | None = None
        self._noticed = False
        self._thread: threading.Thread | None = None

    def notice(self) -> None:
        """Say that there is a job, or that it is time to stop."""
        with self._changed:
            self._noticed = True
            self._changed.notify_all()

    @contextmanager
    def slice(self, tenant_id: TenantId) -> Iterator[None]:
        """While the block runs, the first runner is in a slice for that organization."""
        with self._changed:
            self._served = tenant_id
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobs-beside", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._served = None
                self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait so long for the slice under way."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        give_way()
        runner = Runner(self._resources)
        while (served := self._due()) is not None:
            while not self._stop.is_set() and self._worked(runner, served):
                pass

    def _due(self) -> TenantId | None:
        """Wait until there may be work beside that of the organization that is returned; None when this thread has ended."""
        with self._changed:
            end = time.monotonic() + self._pause_seconds
            while self._waits() and not self._noticed and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            self._noticed = False
            if not self._waits():
                self._thread = None
                return None
            return self._served

    def _waits(self) -> bool:
        return self._served is not None and not self._stop.is_set()

    def _worked(self, runner: Runner, served: TenantId) -> bool:
        try:
            worked = runner.run_once(SLICE_SECONDS, self._stop, besides=served)
        except AgentHubError as error:
            _log.warning("no job could be taken: %s", error.message)
        except Exception:  # noqa: BLE001 - a worker loop: whatever it was, the next turn may do better
            _log.exception("no job could be taken")
        else:
            self._told()
            return worked
        return False
