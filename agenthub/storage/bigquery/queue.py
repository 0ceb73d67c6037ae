"""Group commit: while one transaction is on its way, what arrives waits, and goes together in the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agenthub.core.errors import StorageUnavailable, TooManyWrites
from agenthub.storage.bigquery.rehearsal import Outcome
from agenthub.storage.contract import MAX_WRITES, Insert, Row, Update, Write
from agenthub.storage.outage import RETRY_AFTER_SECONDS

BATCH_BYTES: Final = 4 * 2**20
"""Of values in one batch, roughly: a request to BigQuery holds 10 MB at most, and values grow on their way."""

_LEAST_ROW_BYTES: Final = 100
_NEWEST_SHARE: Final = 0.3
"""How much the latest batch counts in what one is expected to take."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One caller's commit and, in the end, what it answers."""

    writes: Sequence[Write]
    size: int
    outcome: Outcome | BaseException | None = None


class CommitQueue:
    """Hands the commits of all threads of this process to `work`, one batch at a time, in the order of arrival.

    `work` sets the outcome of each; what it raises is the outcome of all.
    """

    def __init__(self, work: Callable[[Sequence[Waiting]], None]) -> None:
        self._work = work
        self.pace_seconds = 0.0
        """How long a batch takes lately; 0 before the first."""
        self.renew_after_fork()

    def renew_after_fork(self) -> None:
        """Forget the parent's callers."""
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []
        self._busy = False

    def commit(self, writes: Sequence[Write], end: float) -> list[Row | None]:
        """The results of the commit.

        Raises: what it answers; TooManyWrites at once when those before it will take longer than until `end`; StorageUnavailable
        when its turn to be written did not come by then all the same. Nothing is written then.
        """
        mine = Waiting(writes, _size(writes))
        with self._changed:
            self._admit(mine, end - time.monotonic())
            self._waiting.append(mine)
        while mine.outcome is None:
            batch = self._next(mine, end)
            if batch:
                self._lead(batch)
        if isinstance(mine.outcome, BaseException):
            # Of its own for each caller: a batch's failure may be raised in many threads.
            raise mine.outcome
        return mine.outcome

    def _admit(self, mine: Waiting, left: float) -> None:
        """Return if there is time for those before it and for its own batch. With nobody before it, it always may try."""
        before = self._busy + _batches([*self._waiting, mine]) - 1
        expected = (before + 1) * self.pace_seconds
        if before and expected > left:
            message = f"more writes come than BigQuery commits, one batch in {self.pace_seconds:.1f} s lately: nothing was written"
            raise TooManyWrites(message, retry_after_seconds=max(self.pace_seconds, expected - left))

    def _next(self, mine: Waiting, end: float) -> list[Waiting]:
        """Wait until this caller's outcome is there (nothing is returned) or it is its turn to lead a batch."""
        with self._changed:
            while mine.outcome is None and self._busy:
                left = end - time.monotonic()
                if left <= 0 and mine in self._waiting:
                    self._waiting.remove(mine)
                    raise StorageUnavailable("too many writes are waiting for BigQuery", retry_after_seconds=RETRY_AFTER_SECONDS)
                self._changed.wait(max(left, 1.0))
            if mine.outcome is not None:
                return []
            self._busy = True
            batch = _batch(self._waiting)
            del self._waiting[: len(batch)]
            return batch

    def _lead(self, batch: Sequence[Waiting]) -> None:
        started = time.monotonic()
        try:
            self._work(batch)
            self._note(time.monotonic() - started)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread of each caller, this one among them
            for waiting in batch:
                waiting.outcome = error
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _note(self, seconds: float) -> None:
        """Only batches that ended well: what an outage took says nothing of the rate."""
        share = _NEWEST_SHARE if self.pace_seconds else 1.0
        self.pace_seconds += share * (seconds - self.pace_seconds)


def _batches(waiting: Sequence[Waiting]) -> int:
    """How many batches those who wait will make."""
    count, start = 0, 0
    while start < len(waiting):
        start, count = start + len(_batch(waiting[start:])), count + 1
    return count


def _batch(waiting: Sequence[Waiting]) -> list[Waiting]:
    """The first of those that wait, as many as fit; always one."""
    batch: list[Waiting] = []
    writes = size = 0
    for one in waiting:
        writes, size = writes + len(one.writes), size + one.size
        if batch and (writes > MAX_WRITES or size > BATCH_BYTES):
            break
        batch.append(one)
    return batch


def _size(writes: Sequence[Write]) -> int:
    rows = [write.row if isinstance(write, Insert) else write.changes if isinstance(write, Update) else {} for write in writes]
    return sum(_LEAST_ROW_BYTES + sum(map(_value_size, row.values())) for row in rows)


def _value_size(value: object) -> int:
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, dict):
        return sum(_value_size(key) + _value_size(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_value_size, value))
    return 8
