"""Live switch-overs to BigQuery and away from it, under writers that keep account of what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import pytest

from agenthub.core.errors import WritesPaused
from agenthub.storage.contract import EVERY_TENANT, Insert, Query, Storage
from agenthub.storage.gate import CHANGES
from agenthub.storage.moving.scanning import pages
from agenthub.storage.moving.switching import switch
from tests.contracts.storage.tables import THINGS, thing
from tests.storage.moving.conftest import Make, moving, populate

WRITERS: Final = 3
PACE_SECONDS: Final = 0.5
"""Between two rows of a writer: a source that is written to faster than BigQuery takes rows can't be followed there."""
PAUSE_SECONDS: Final = 600.0
"""The emulator takes seconds for what the pause has to hold."""


@dataclass
class Writers:
    """Threads that insert rows with keys of their own, at whichever of the two storages takes them."""

    ends: tuple[Storage, Storage]
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    """The key and which of the two storages took it."""

    def write(self, writer: int) -> None:
        """Insert until told to end; each row is tried until it is acknowledged."""
        for turn in count():
            if self.stop.wait(PACE_SECONDS):
                return
            key, at = f"writer {writer} {turn}", 0
            while True:
                try:
                    self.ends[at].commit([Insert(THINGS, thing(key, name=key))])
                except WritesPaused:
                    at = 1 - at
                    time.sleep(0.05)
                    if self.stop.is_set():
                        return
                else:
                    self.acknowledged.append((key, at))
                    break

    def taken_by(self, at: int) -> int:
        """How many rows that storage acknowledged."""
        return sum(1 for _, place in list(self.acknowledged) if place == at)


@contextmanager
def writing(source: Storage, target: Storage) -> Iterator[Writers]:
    writers = Writers((source, target))
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(writers.write, number) for number in range(WRITERS)]
        try:
            yield writers
        finally:
            writers.stop.set()
            for one in running:
                one.result()


def wait_for(writers: Writers, at: int, rows: int) -> None:
    """Wait until that storage has acknowledged so many rows."""
    limit = time.monotonic() + 300
    while writers.taken_by(at) < rows:
        assert time.monotonic() < limit, writers.acknowledged
        time.sleep(0.1)


@pytest.mark.torture  # a minute and more on the emulator
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("here", "there"), [("sqlite", "bigquery"), ("postgresql", "bigquery"), ("bigquery", "sqlite")])
def test_a_live_switch_over_keeps_every_acknowledged_write(make: Make, here: str, there: str) -> None:
    source, target = make(here, "source"), make(there, "target")
    populate(source, 60)
    before = source.count(THINGS, EVERY_TENANT)
    move = moving(source, target)
    with writing(source, target) as writers:
        wait_for(writers, 0, 5)
        move.copy(follow=True)
        done = switch(move, PAUSE_SECONDS)
        wait_for(writers, 1, 5)
    stored = {row["id"] for page in pages(target, THINGS) for row in page}
    keys = {key for key, _ in writers.acknowledged}
    assert keys <= stored, keys - stored
    assert target.count(THINGS, EVERY_TENANT) == len(stored) == before + len(keys)
    assert len(writers.acknowledged) == len(keys)
    assert done.repaired == 0
    with pytest.raises(WritesPaused):
        source.commit([Insert(THINGS, thing("late"))])
    assert target.find(CHANGES, EVERY_TENANT, Query(limit=1)), "the way back is followed"
