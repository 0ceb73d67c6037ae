"""T1 and T2 for what changes a knowledge base beside appends, on three kinds of storage: any call on the volume fails or is the last.

Rows are in memory and right; the disk is the one that fails, forgets what was not synced, and comes back.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agenthub.core.errors import AgentHubError
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.volume import Volume
from agenthub.repositories.knowledge import commits, snapshots
from agenthub.repositories.knowledge.collecting import Collector, Grace
from agenthub.repositories.knowledge.erasing import EraseRequests, Erasure, ErasureRepository
from agenthub.repositories.knowledge.expunging import Expunger
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.repositories.knowledge.merging import Merges
from agenthub.repositories.operations import Operation
from agenthub.storage.contract import ALL, DeleteWhere, Update
from tests.faults.figures import Figures
from tests.faults.test_profiles import PROFILES
from tests.rag.fault_volume import Crash, Fault, FaultDisk
from tests.repositories.knowledge.world import TENANT, World

FAULTS: tuple[Fault, ...] = ("crash", "EIO", "ENOSPC", "ESTALE")
CANARY = "quokkafandango"
Content = dict[str, list[str]]


@dataclass
class Siege:
    """A knowledge base on a real folder, and what it must show."""

    root: Path
    figures: Figures
    world: World = field(init=False)
    content: Content = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World()
        self.healthy()
        self.world.create()
        keep = {"retained_generations": 0, "retained_seconds": 0}
        self.world.storage.commit([Update(KnowledgeBaseRepository.table, TENANT, self.world.base_id, keep)])

    def on(self, disk: FaultDisk | None) -> None:
        """The process that is at work from now on, and the disk it sees."""
        options: dict[str, Any] = {"disk": disk} if disk else {}
        self.world.volume = Volume(self.root, mapping="never", free_space_floor_bytes=0, **options)
        self.world.engine = KnowledgeEngine(self.world.volume, RagSettings(mapping="never", turn_seconds=0))

    def healthy(self) -> None:
        self.on(None)

    def add(self, *texts: str) -> str:
        key = new_id()
        self.world.add(key, *texts)
        self.content[key] = sorted(texts)
        return key

    def shrink(self) -> None:
        """Leave a few documents: what comes after takes no longer than what came before."""
        while len(self.content) > 4:
            key = next(iter(self.content))
            self.world.delete(key)
            del self.content[key]

    def look(self, where: str, allowed: list[Content]) -> None:
        """A process that starts now sees one of these, whole, and the next write works."""
        self.healthy()
        seen = self.world.content()
        self.figures.expect(seen in allowed, f"{where}: {seen} instead of {allowed}")
        self.content = seen
        problems = self.world.engine.verify(self.world.base_id, self.world.base.pointer)
        self.figures.expect(problems == [], f"{where}: {problems}")


# --- what is done: prepare on a healthy disk, then the act, and what shows after it ---


def _replace(siege: Siege) -> tuple[Callable[[], Any], Content]:
    key = next(iter(siege.content))
    return lambda: siege.world.replace(key, "a new text", "another"), siege.content | {key: ["a new text", "another"]}


def _merge(siege: Siege) -> tuple[Callable[[], Any], Content]:
    while siege.world.segments < 8:
        siege.add("one of many")
    return lambda: Merges(siege.world.storage, siege.world.engine).merge(siege.world.base), siege.content


def _collect(siege: Siege) -> tuple[Callable[[], Any], Content]:
    _merge(siege)[0]()
    siege.world.engine.put_original(siege.world.base_id, b"left by a killed writer")
    siege.add("after the merge")

    def act() -> None:
        for _ in range(2):
            Collector(siege.world.storage, siege.world.engine, Grace(0, 0)).collect(siege.world.base_id)

    return act, siege.content


def _erase(siege: Siege) -> tuple[Callable[[], Any], Content]:
    while Merges(siege.world.storage, siege.world.engine).merge(siege.world.base, at_rest=True):
        pass  # every erasure looks into every segment there is: they must not become more and more
    for _ in range(2):
        Collector(siege.world.storage, siege.world.engine, Grace(0, 0)).collect(siege.world.base_id)
    key = siege.add(f"about the {CANARY}")
    siege.add("beside it")
    after = {name: texts for name, texts in siege.content.items() if name != key}

    def act() -> None:
        world = siege.world
        request = EraseRequests(world.storage, world.engine, Operation())
        _finish(siege, request.request(world.base, key, lambda erasure: erasure))

    return act, after


def _finish(siege: Siege, erasure: Erasure) -> bool:
    kept = ErasureRepository(siege.world.storage).get(TENANT, erasure.id)
    return Expunger(siege.world.storage, siege.world.engine, lambda *_: (), Grace(0, 0)).finish(siege.world.base, kept)


STRIDES = {"replace": 29, "merge": 41, "collect": 211, "erase": 97}
"""Which calls fail in `make test`: each so manieth; on nfs and gcsfuse a third of them."""
FRESH_AFTER = 25
"""After so many injections another knowledge base is besieged: what the history of one adds up to only takes time here."""
CLOSE_STRIDES = {"replace": 1, "merge": 7, "collect": 19, "erase": 2}
"""As much for `make torture`: each part ends within a minute."""
ACTS = {"replace": _replace, "merge": _merge, "collect": _collect, "erase": _erase}


def attempt(siege: Siege, profile: str, act: str, fault: Fault, at: int) -> bool:
    """One injection; whether there was a call to fail."""
    siege.world.storage.commit([DeleteWhere(INTENTS, EVERY_TENANT, ALL)])  # a dead writer's runs out after an hour
    siege.shrink()
    do, after = ACTS[act](siege)
    before, disk = dict(siege.content), PROFILES[profile](fault, at)
    siege.on(disk)
    done = False
    with suppress(AgentHubError, Crash):
        do()
        done = True
    reached = len(disk.calls) >= at
    for left in siege.root.rglob("*.uploading"):
        left.unlink()  # an upload that was never closed is no object
    disk.lose_unsynced(at)
    siege.figures.injections += reached
    siege.look(f"{profile} {act} {fault} at call {at}", [after] if done else [before, after])
    if act == "erase":
        siege.world.storage.commit([DeleteWhere(INTENTS, EVERY_TENANT, ALL)])
        _nothing_left(siege, f"{profile} {fault} at call {at}")
    return reached


def _nothing_left(siege: Siege, where: str) -> None:
    """Whoever comes after finishes; where the request itself failed there is nothing to finish."""
    unfinished = ErasureRepository(siege.world.storage).unfinished(TENANT, siege.world.base_id)
    siege.figures.expect(all(_finish(siege, erasure) for erasure in unfinished), f"{where}: the erasure can't be finished")
    hidden = all(CANARY not in text for texts in siege.world.content().values() for text in texts)
    left = [path.name for path in siege.root.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    siege.figures.expect(not (hidden and left), f"{where}: left in {left}")


def besiege(profile: str, act: str, root: Path, stride: int, faults: Sequence[Fault] = FAULTS) -> None:
    figures = Figures(f"T1/T2 {act} on {profile}: {', '.join(faults)}", seed=stride)
    siege = fresh(root / "0", figures)
    for number, fault in enumerate(faults):
        at = 1 + number * stride // len(faults)
        while attempt(siege, profile, act, fault, at):
            at += stride
            if figures.injections % FRESH_AFTER == 0:
                end(siege)
                siege = fresh(root / str(figures.injections), figures)
    end(siege)
    sys.stdout.write(figures.line() + "\n")
    assert figures.violations == []
    assert figures.injections >= len(faults)


def fresh(root: Path, figures: Figures) -> Siege:
    """A knowledge base to besiege."""
    siege = Siege(root, figures)
    for _ in range(3):
        siege.add("a first text")
    return siege


def end(siege: Siege) -> None:
    """It still takes writes."""
    siege.add("it still takes writes")
    siege.look("at the end", [siege.content])
    shutil.rmtree(siege.root)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses before another try only take time here."""
    for module in (commits, snapshots):
        monkeypatch.setattr(module.time, "sleep", lambda _: None)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("act", ACTS)
def test_some_calls_may_fail_or_be_the_last(profile: str, act: str, tmp_path: Path) -> None:
    besiege(profile, act, tmp_path / "volume", stride=STRIDES[act] * (1 if profile == "posix" else 3))


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("act", ACTS)
def test_many_calls_may_fail_or_be_the_last(profile: str, act: str, fault: Fault, tmp_path: Path) -> None:
    besiege(profile, act, tmp_path / "volume", CLOSE_STRIDES[act], (fault,))
