"""T4: cuts the power at every step of writing, collecting and erasing, with SQLite file and volume on the file system that loses it.

Usage: `python -m tests.faults.power_cuts KIND CUTS STRIDE FOLDER [unsynced]`, KIND being ext4 or xfs. Root only.

Each child checks what the cut before it left, begins a write, and at its N-th step shuts the file system down without flushing the log.
What was acknowledged must be there in full after the journal is replayed; what was not, absent or whole. Whoever comes next finishes what
erasures asked for: then no byte of the volume is of an erased text or vector. `unsynced` leaves out every fsync of the volume: then
violations must be found, or this harness sees nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flask import Flask

from agenthub.core import failpoints
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.configuration import RagSettings
from agenthub.rag.disk import Disk
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.vectors import unit_vectors
from agenthub.rag.volume import Volume
from agenthub.repositories.knowledge.collecting import Collector, Grace
from agenthub.repositories.knowledge.erasing import EraseRequests, Erasure, ErasureRepository
from agenthub.repositories.knowledge.expunging import Expunger
from agenthub.repositories.knowledge.inspecting import Inspections
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.operations import Operation
from agenthub.storage.configuration import StorageSettings
from agenthub.storage.contract import ALL, DeleteWhere, Update
from agenthub.storage.migrating import migrate
from agenthub.storage.sql.sqlite import open_sqlite
from tests.faults.figures import Figures
from tests.faults.shutdown import LoopFileSystem
from tests.repositories.knowledge.world import TENANT, World, vector_of
from tests.system.crash_walk import in_child

OPERATIONS: Final = ("add", "replace", "delete", "merge", "collect", "erase")
Content = dict[str, list[str]]


class UnsyncedDisk(Disk):
    """Says that all is durable and does nothing for it."""

    def sync_file(self, descriptor: int) -> None:
        pass

    def sync_folder(self, descriptor: int) -> None:
        pass


def open_world(root: Path, base_id: str, disk: Disk) -> World:
    """The knowledge base on the file system at `root`, opened as by a process that starts now."""
    storage = open_sqlite(StorageSettings("sqlite", f"sqlite:///{root}/agenthub.sqlite3"), Flask("power cuts"))
    world = World(storage=storage, base_id=base_id)
    world.volume = Volume(root / "knowledge", mapping="never", free_space_floor_bytes=0, disk=disk)
    world.engine = KnowledgeEngine(world.volume, RagSettings(mapping="never"))
    return world


@dataclass
class Plan:
    """What the next child does, and what it may find. `before` and `after` are the write that was cut."""

    base_id: str
    before: Content = field(default_factory=dict)
    after: Content = field(default_factory=dict)
    acknowledged: bool = True
    number: int = 0
    erased: list[str] = field(default_factory=list)
    """The texts of documents that were erased, or that the next child was to erase."""


def intended(operation: str, content: Content, number: int) -> tuple[Content, Callable[[World], Any]]:
    """What the content will be, and the write that makes it so."""
    texts = [f"text {number} line {line} {'x' * number}" for line in range(3)]  # of another length each time: no two have one vector
    keys = sorted(content)
    if operation == "replace" and keys:
        key = keys[number % len(keys)]
        return content | {key: texts}, lambda world: world.replace(key, *texts)
    if operation == "collect":
        return content, lambda world: [Collector(world.storage, world.engine, Grace(0, 0)).collect(world.base_id) for _ in range(2)]
    if operation == "erase" and len(keys) > 2:
        key = keys[number % len(keys)]
        return {one: found for one, found in content.items() if one != key}, lambda world: erase(world, key)
    if operation == "delete" and len(keys) > 2:
        key = keys[number % len(keys)]
        return {one: found for one, found in content.items() if one != key}, lambda world: world.delete(key)
    if operation == "merge":
        return content, lambda world: Merges(world.storage, world.engine).merge(world.base)
    return content | {f"doc{number:05}": texts}, lambda world: world.add(f"doc{number:05}", *texts)


def erase(world: World, key: str) -> None:
    """Ask for it and finish it."""
    request: Erasure = EraseRequests(world.storage, world.engine, Operation()).request(world.base, key, lambda erasure: erasure)
    finish(world, ErasureRepository(world.storage).get(TENANT, request.id))


def finish(world: World, erasure: Erasure) -> bool:
    return Expunger(world.storage, world.engine, lambda *_: (), Grace(0, 0)).finish(world.base, erasure)


def traces(root: Path, texts: list[str]) -> list[str]:
    """The files of the volume that have a byte of these texts or their vectors."""
    vectors = [vector_of(text) for text in texts]
    needles = [text.encode() for text in texts] + [one.astype("<f4").tobytes() for one in vectors]
    needles += [unit_vectors(one[None]).astype("<f4").tobytes() for one in vectors]
    files = [path for path in (root / "knowledge").rglob("*") if path.is_file()]
    return [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


class Walk:
    """Cuts one after the other."""

    def __init__(self, system: LoopFileSystem, folder: Path, figures: Figures, disk: Disk) -> None:
        self.system = system
        self.report = folder / "report.json"
        self.acknowledgement = folder / "acknowledged"
        self.figures = figures
        self.disk = disk
        self.plan = Plan("0" * 26)

    def prepare(self) -> None:
        """The database, and an empty knowledge base that is acknowledged."""

        def run() -> None:
            world = open_world(self.system.mounted, self.plan.base_id, self.disk)
            migrate(world.storage)
            world.create()
            keep = {"retained_generations": 0, "retained_seconds": 0}
            world.storage.commit([Update(KnowledgeBaseRepository.table, TENANT, world.base_id, keep)])
            os.sync()

        assert in_child(run) == 0

    def turn(self, operation: str, step: int) -> bool:
        """Check, write, cut; whether the write got through before the cut."""
        self.report.unlink(missing_ok=True)
        self.acknowledgement.unlink(missing_ok=True)
        in_child(lambda: self._child(operation, step))
        self.system.come_back()
        if not self.report.exists():
            self.figures.violations.append(f"cut {self.figures.injections}: what it left can't be read")
            return True
        told = json.loads(self.report.read_text())
        self.figures.violations += told["violations"]
        self.figures.injections += 1
        self.figures.operations += 1
        self.figures.counts[f"cuts in {operation}"] += 1
        done = self.acknowledgement.exists()
        self.figures.counts["acknowledged"] += done
        self.plan = Plan(self.plan.base_id, told["content"], told["intended"], done, self.plan.number + 1, told["erased"])
        return done

    def _child(self, operation: str, step: int) -> None:
        world = open_world(self.system.mounted, self.plan.base_id, self.disk)
        content, violations = self._checked(world)
        wanted, write = intended(operation, content, self.plan.number)
        going = [text for key, texts in content.items() if operation == "erase" and key not in wanted for text in texts]
        erased = [*self._gone(content), *going]
        told = {"content": content, "intended": wanted, "violations": violations, "erased": erased}
        self.report.write_text(json.dumps(told))
        os.kill = self._cut
        failpoints.arm(f"all=kill@{step}")
        write(world)
        failpoints.arm("")
        self.acknowledgement.touch()
        self._cut(0, 0)

    def _cut(self, _process: int, _signal: int) -> None:
        self.system.cut()
        os._exit(9)

    def _checked(self, world: World) -> tuple[Content, list[str]]:
        where = f"cut {self.figures.injections}"
        found, violations = world.content(), []
        allowed = [self.plan.after] if self.plan.acknowledged else [self.plan.before, self.plan.after]
        if found not in allowed:
            violations.append(f"{where}: {found} instead of {allowed}")
        seen = Inspections(world.storage, world.engine).inspect(world.base)
        violations += [f"{where}: {problem}" for problem in seen.problems if problem.kind in ("truth", "derived", "document")]
        return found, violations + [f"{where}: {problem}" for problem in self._erased(world, found)]

    def _erased(self, world: World, content: Content) -> list[str]:
        """Finish what erasures asked for, as if the hour of killed writers were over; what is wrong then."""
        world.storage.commit([DeleteWhere(INTENTS, EVERY_TENANT, ALL)])
        waiting = ErasureRepository(world.storage).unfinished(TENANT, world.base_id)
        problems = ["an erasure can't be finished" for erasure in waiting if not finish(world, erasure)]
        left = traces(self.system.mounted, self._gone(content))
        return problems + [f"of what was erased something is left in {name}" for name in left]

    def _gone(self, content: Content) -> list[str]:
        """The texts that were erased: those still shown belong to a document whose request was cut."""
        shown = {text for texts in content.values() for text in texts}
        return [text for text in self.plan.erased if text not in shown]


def main(kind: str, cuts: int, stride: int, folder: Path, *, unsynced: bool = False) -> int:
    figures = Figures(f"T4 power cuts on {kind}", seed=stride)
    system = LoopFileSystem(folder, kind)
    try:
        walk = Walk(system, folder, figures, UnsyncedDisk() if unsynced else Disk())
        walk.prepare()
        number, step = 0, 1
        while figures.injections < cuts and not figures.violations:
            done = walk.turn(OPERATIONS[number % len(OPERATIONS)], step)
            number, step = (number + 1, 1 + number % stride) if done else (number, step + stride)
        walk.turn("add", 100_000)  # looks at what the last cut left
    finally:
        system.close()
    return figures.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), unsynced=sys.argv[5:] == ["unsynced"]))
