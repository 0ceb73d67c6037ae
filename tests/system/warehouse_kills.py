"""Kills exporters at work: `python -m tests.system.warehouse_kills KILLS SEED DATABASE_URL PROJECT DATASET ENDPOINT FOLDER`.

A writer commits audit and activity events without a pause, some of them held back in transactions that commit late. Two exporters
at a time bring them to the warehouse and are killed with SIGKILL so often: half of them at a random moment, half at a random failpoint,
such as between the batch and its checkpoint. Then one exporter works to the end. In the warehouse there must be exactly one row for
each event of the database, with the same contents. Prints one JSON line.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask

from agenthub.core import failpoints
from agenthub.core.errors import AgentHubError
from agenthub.core.types import EVERY_TENANT
from agenthub.storage.configuration import BigQuerySettings, parse_database_url
from agenthub.storage.contract import Storage
from agenthub.storage.moving.canonical import encoded
from agenthub.storage.moving.scanning import pages
from agenthub.storage.open import open_storage
from agenthub.storage.warehouse.exporting import Exporter, Limits
from tests.storage.warehouse.in_memory import TABLES, written
from tests.system.job_kills import ended, forked

MODULES = ("agenthub.storage.bigquery.warehouse", "agenthub.storage.sql.postgresql")
LEASE_SECONDS = 1.0
MOST_PASSAGES = 14
STEPS = ("warehouse.put", "warehouse.before_job", "warehouse.after_job", "warehouse.is_put", "warehouse.checkpoint")
"""Around a batch: each is died at in every siege."""


@dataclass(frozen=True)
class Siege:
    """One database and its warehouse."""

    database_url: str
    dataset: BigQuerySettings
    folder: Path

    @property
    def over(self) -> Path:
        """Exists when the writer is to end."""
        return self.folder / "over"

    def storage(self) -> Storage:
        return open_storage(parse_database_url(self.database_url), Flask("siege"))

    def warehouse(self) -> Any:
        return importlib.import_module(MODULES[0]).BigQueryWarehouse(self.dataset)

    def begin(self) -> None:
        """Make the warehouse, and some rows of old."""
        self.warehouse().make(TABLES)
        written(self.storage(), 60)

    def write(self) -> None:
        """Commit events until it is over."""
        storage = self.storage()
        while not self.over.exists():
            written(storage, 1)
            time.sleep(0.02)

    def export(self, death: str = "") -> None:
        """Export for ever, or until that failpoint."""
        exporter = self.exporter(20, 0.05)
        failpoints.arm(death)
        while True:
            with suppress(AgentHubError):
                exporter.run(0.3)
            time.sleep(0.02)

    def exporter(self, batch_rows: int, interval_seconds: float) -> Exporter:
        return Exporter(self.storage(), self.warehouse(), TABLES, Limits(batch_rows, 1 << 20, interval_seconds, LEASE_SECONDS))

    def finish(self) -> None:
        """Export the rest and write down what is wrong."""
        exporter, limit = self.exporter(500, 0.0), time.monotonic() + 600
        while exporter.run(60.0, when_due=False) is None or exporter.standing().behind_rows:
            assert time.monotonic() < limit, exporter.standing()
            time.sleep(0.1)
        (self.folder / "figures.json").write_text(json.dumps(self.compared()))

    def compared(self) -> dict[str, Any]:
        """How many rows both sides have, and each difference."""
        storage, warehouse, module = self.storage(), self.warehouse(), importlib.import_module(MODULES[0])
        found: dict[str, Any] = {"rows": 0, "problems": []}
        for table in TABLES:
            mine = {row[table.key]: encoded(table, row) for page in pages(storage, table) for row in page}
            number, different = warehouse.count(table)
            theirs = {row[table.key]: encoded(table, row) for page in pages(warehouse._storage, module.exported(table)) for row in page}
            found["rows"] += number
            if not number == different == len(mine):
                found["problems"].append(f"{table.name}: {len(mine)} events, {number} rows with {different} keys")
            found["problems"] += [f"{table.name} {key} differs" for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]
        found["notes"] = storage.count(module_of_gate().CHANGES, EVERY_TENANT)
        return found


def module_of_gate() -> Any:
    return importlib.import_module("agenthub.storage.gate")


def kill_so_often(siege: Siege, kills: int, seed: int) -> dict[str, int]:
    """Keep two exporters at work and kill one, so often; how they died."""
    pick = random.Random(seed)
    died = {"at_a_failpoint": 0, "at_a_moment": 0}
    victims = [forked(partial(siege.export, _death(pick, 0))), forked(siege.export)]
    while min(died.values()) < kills // 2:
        for place, way in enumerate(died):
            if died[way] < kills // 2 and _is_dead(victims[place], pick, killed=place == 1):
                died[way] += 1
                victims[place] = forked(partial(siege.export, _death(pick, died[way]) if place == 0 else ""))
        time.sleep(0.02)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    return died


def _death(pick: random.Random, number: int) -> str:
    """The failpoint at which the first of the two dies this time: the steps around a batch one after the other, then any."""
    if number < len(STEPS):
        return f"{STEPS[number]}=kill@1"
    return pick.choice([f"all=kill@{pick.randint(1, MOST_PASSAGES)}", f"{pick.choice(STEPS)}=kill@{pick.randint(1, 3)}"])


def _is_dead(victim: int, pick: random.Random, *, killed: bool) -> bool:
    """Whether it died at its failpoint, or is `killed` now: that is done about once a second."""
    if not killed:
        pid, status = os.waitpid(victim, os.WNOHANG)
        assert not pid or os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "an exporter ended by itself"
        return bool(pid)
    if pick.random() > 0.02:
        return False
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    return True


def main(kills: int, seed: int, siege: Siege) -> int:
    for module in MODULES:  # imported here, used only in children: a fork must not inherit a client at work
        importlib.import_module(module)
    assert ended(siege.begin) == 0
    started, writer = time.monotonic(), forked(siege.write)
    try:
        died = kill_so_often(siege, kills, seed)
    finally:
        siege.over.touch()
        os.waitpid(writer, 0)
    assert ended(siege.finish) == 0
    figures = {"kills": died, "seed": seed, "seconds": round(time.monotonic() - started, 1)}
    figures |= json.loads((siege.folder / "figures.json").read_text())
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if figures["problems"] or figures["notes"] else 0


if __name__ == "__main__":
    _, count, chosen, url, project, dataset, endpoint, place = sys.argv
    sys.exit(main(int(count), int(chosen), Siege(url, BigQuerySettings(project, dataset, "US", endpoint, 30.0), Path(place))))
