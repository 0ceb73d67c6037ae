"""Commits on a database that enforces no keys and cancels transactions: read, rehearse, write if nobody else did meanwhile.

Every commit moves one row, the turn. A batch of commits is read with the turn's number, tried in this process by the rules of the
memory backend, and written by a transaction that first moves the turn from that very number. So whatever was read is still true
when it is written, whichever table it was in, and a script that arrives twice takes effect once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal

from agenthub.core.errors import AgentHubError, OutcomeUnknown
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.storage.bigquery.client import Line
from agenthub.storage.bigquery.clock import CarriedClock
from agenthub.storage.bigquery.failures import Broken, Contended, Failure, Lost, Moved, Throttled
from agenthub.storage.bigquery.lookups import Lookups
from agenthub.storage.bigquery.queue import Waiting
from agenthub.storage.bigquery.rehearsal import Changes, Outcome, Rehearsal
from agenthub.storage.bigquery.script import Snapshot, reading, snapshot_of, writing
from agenthub.storage.outage import RETRY_AFTER_SECONDS

SETTLE_SECONDS: Final = 5.0
"""How long past its time a commit may still ask what became of it."""

LOST_TRIES: Final = 3
"""How often BigQuery may fail to answer before the caller is told so; other failures are tried again until the time is over."""

Standing = Literal["written", "never", "open", "unknown"]
"""Of a script: it took effect; it did not and can't any more; it did not so far; nobody could be asked."""

_MOST_PAUSE_SECONDS: Final = 2.0
_random: Final = random.SystemRandom()


class Committer:
    """Writes batches of commits. One at a time per process: `CommitQueue` sees to it."""

    def __init__(self, line: Line, clock: CarriedClock, pause: Callable[[float], None] = time.sleep) -> None:
        self._line = line
        self._clock = clock
        self._pause = pause

    def work(self, batch: Sequence[Waiting]) -> None:
        """Set the outcome of each commit of the batch.

        Raises: StorageUnavailable when BigQuery is away, full, or gave others precedence until the time was over: nothing is
        written then. OutcomeUnknown.
        """
        lookups = Lookups()
        for waiting in batch:
            lookups.add(waiting.writes)
        operation, end, attempt, lost = random_name(), self._line.end(), 0, 0
        quota: Failure | None = None
        while True:
            try:
                outcomes = self._attempt(batch, lookups, f"{operation}_{attempt}", end)
            except Failure as failure:
                attempt, lost = attempt + 1, lost + isinstance(failure, Lost)
                quota = failure if isinstance(failure, Throttled) else quota
                pause = _random.uniform(0, min(_MOST_PAUSE_SECONDS, failure.pause_seconds * 2.0**attempt))
                if lost == LOST_TRIES or time.monotonic() + pause >= end:
                    raise (quota or failure).final() from failure  # a full quota is what the caller should hear of
                self._pause(pause)
                continue
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome = outcome
            return

    def _attempt(self, batch: Sequence[Waiting], lookups: Lookups, operation: str, end: float) -> list[Outcome]:
        snapshot, outcomes, changes = self._rehearse(batch, lookups, end)
        if changes:
            failpoint("storage.before_commit")
            self._write(snapshot, operation, changes, end)
            failpoint("storage.after_commit")
        return outcomes

    def _rehearse(self, batch: Sequence[Waiting], lookups: Lookups, end: float) -> tuple[Snapshot, list[Outcome], list[Changes]]:
        """What each commit answers on the rows of one moment, and what has to be written then."""
        while True:
            snapshot = self._read(lookups, end)
            if snapshot.listened and lookups.follow():
                continue
            rehearsal = Rehearsal(snapshot.clock, snapshot.rows)
            outcomes = [rehearsal.tried(waiting.writes) for waiting in batch]
            if not rehearsal.lacks(lookups):
                return snapshot, outcomes, rehearsal.changes()

    def _read(self, lookups: Lookups, end: float) -> Snapshot:
        text, statement = reading(lookups)
        sent = time.monotonic()
        (row,) = self._line.rows(text, statement.parameters, end)
        self._clock.read(row["clock"], sent)
        return snapshot_of(row, lookups)

    def _write(self, snapshot: Snapshot, operation: str, changes: Sequence[Changes], end: float) -> None:
        """Write, and know whether it was written.

        Raises: Failure when it was not and will not be; OutcomeUnknown.
        """
        text, statement = writing(snapshot, operation, changes)
        job = _job_of(operation)
        try:
            self._line.run(job, text, statement.parameters, end)
        except (Lost, Broken) as failure:
            self._settle(lambda until: self._line.run(job, text, statement.parameters, until), snapshot, operation, failure)

    def _settle(self, again: Callable[[float], None], snapshot: Snapshot, operation: str, failure: Failure) -> None:
        """Return if a script whose outcome nobody told took effect.

        The same job is sent again: if it had arrived, BigQuery says so and it is waited for; if not, it runs now. The turn has
        the last word: it names the commits that came last, and once its number moved on, this script can do nothing any more.

        Raises: Failure when it did not and never will; OutcomeUnknown when BigQuery can't be asked in time.
        """
        until, over = time.monotonic() + SETTLE_SECONDS, isinstance(failure, Broken)
        while time.monotonic() < until:
            if not over:
                try:
                    return again(until)
                except (Moved, Contended):
                    raise
                except (Failure, AgentHubError) as error:
                    over = isinstance(error, Broken)
            standing = self._standing(snapshot, operation, until)
            if standing == "written":
                return None
            if standing == "never" or (standing == "open" and over):
                raise failure
            self._pause(_random.uniform(0.1, 0.5))
        self._abandon(operation)
        message = "no answer came while committing; retry with the same key"
        raise OutcomeUnknown(message, retry_after_seconds=RETRY_AFTER_SECONDS) from failure

    def _standing(self, snapshot: Snapshot, operation: str, until: float) -> Standing:
        try:
            now = self._read(Lookups(), until)
        except (Failure, AgentHubError):
            return "unknown"
        if operation in now.recent.split():
            return "written"
        return "open" if now.number == snapshot.number else "never"

    def _abandon(self, operation: str) -> None:
        """Ask that the job be stopped, so that it does not take effect long after its caller was told that nobody knows."""
        with suppress(Failure, AgentHubError):
            self._line.cancel(_job_of(operation))


def _job_of(operation: str) -> str:
    return f"agenthub_{operation}"
