"""Kills a process at every step of upkeep: `python -m tests.system.upkeep_walk merge|collect|erase DATABASE_URL FOLDER STRIDE`.

As tests/system/crash_walk.py: process N checks what process N-1 left, prepares something to do, and dies at the N-th failpoint of
doing it. Contents are compared exhaustively, and every byte that the current generation names is verified.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agenthub.core import failpoints
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.knowledge.collecting import Grace
from agenthub.repositories.knowledge.erasing import ErasureRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import LEASES
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.knowledge.upkeep import Upkeep
from agenthub.resources import Resources
from agenthub.storage.contract import ALL, DeleteWhere, Update
from tests.api import Api, make_app
from tests.system.crash_walk import KILLED, MOST_STEPS, in_child

CANARY: Final = b"quokkafandango"
SEGMENTS: Final = 8


@dataclass
class State:
    """What the walk knows, kept in a file between processes."""

    token: str
    base_id: str
    ids: list[str] = field(default_factory=list)


class Scene:
    """One process at work."""

    def __init__(self, folder: Path, url: str, state: State | None = None) -> None:
        self.folder = folder
        self.state = state
        app = make_app(folder, url, AGENTHUB_SERVICES="knowledge.*,platform.authentication", AGENTHUB_MAINTENANCE="off")
        self.api = Api(app, state.token if state else None)
        self.resources: Resources = app.extensions["agenthub"]
        storage, engine = self.resources.storage, self.resources.knowledge
        self.upkeep = Upkeep(storage, engine, self.resources.forget_texts, Grace(0, 0))

    @property
    def known(self) -> State:
        assert self.state is not None
        return self.state

    @property
    def base(self) -> KnowledgeBase:
        return KnowledgeBaseRepository(self.resources.storage).get(EVERY_TENANT, self.known.base_id)

    @property
    def path(self) -> str:
        return f"/api/knowledge-bases/{self.known.base_id}"

    def begin(self) -> State:
        self.api = self.api.login()
        base = self.api.post("/api/knowledge-bases", {"name": "walk"}, 201)["id"]
        self.state = State(self.api.token or "", base)
        self.resources.storage.commit(
            [Update(KnowledgeBaseRepository.table, EVERY_TENANT, base, {"retained_generations": 0, "retained_seconds": 0})]
        )
        return self.state

    def add(self, count: int) -> None:
        for _ in range(count):
            key = f"c{new_id()}"
            self.api.post(f"{self.path}/chunks", {"items": [{"id": key, "text": f"text {key}"}]})
            self.known.ids.append(key)

    # --- what is walked: prepare, then act ---

    def prepare(self, operation: str) -> None:
        # Who was killed holds these until they run out: the lease some seconds, the intent an hour later.
        self.resources.storage.commit([DeleteWhere(LEASES, EVERY_TENANT, ALL), DeleteWhere(INTENTS, EVERY_TENANT, ALL)])
        missing = SEGMENTS - len(self.resources.knowledge.read_manifest(self.base.id, self.base.pointer).segments)
        spare = 2 - len(self.known.ids)  # a walk that is killed early merges nothing, and each of its steps deletes one
        self.add(max(0, missing if operation != "erase" else 1, spare))
        if operation == "merge":
            gone = self.known.ids.pop(0)
            self.api.post(f"{self.path}/chunks/delete", {"ids": [gone]})
        if operation == "collect":
            self.upkeep.merge(self.base)
            self.resources.knowledge.put_original(self.base.id, b"left by a killed writer")
            self.add(2)
        if operation == "erase":
            self.api.post(f"{self.path}/documents", {"title": "secret", "text": f"About {CANARY.decode()}."}, 201)

    def act(self, operation: str) -> None:
        if operation == "merge":
            self.upkeep.merge(self.base)
        elif operation == "collect":
            self.upkeep.collect(self.base.id)
            self.upkeep.collect(self.base.id)
        else:
            document = self.api.get(f"{self.path}/documents")["items"][0]["id"]
            self.api.post(f"{self.path}/documents/{document}/erase", None, 202)
            self.upkeep.erase(self.base)

    # --- what is checked ---

    def problems(self, operation: str) -> list[str]:
        found: list[str] = []
        base, searcher = Snapshots(self.resources.storage, self.resources.knowledge).open(self.base.tenant_id, self.base.id)
        missing = set(self.known.ids) - searcher.existing(self.known.ids)
        found += [f"lost {missing}"] if missing else []
        if searcher.chunk_count != base.chunk_count or (operation != "erase" and base.chunk_count != len(self.known.ids)):
            found.append(f"{searcher.chunk_count} chunks are visible, {base.chunk_count} counted, {len(self.known.ids)} acknowledged")
        found += self.resources.knowledge.verify(base.id, base.pointer)
        return found + (self.erased() if operation == "erase" else [])

    def erased(self) -> list[str]:
        """Finish what the killed process began; then nothing is left of it, or it never began and all is left."""
        self.resources.storage.commit([DeleteWhere(LEASES, EVERY_TENANT, ALL), DeleteWhere(INTENTS, EVERY_TENANT, ALL)])
        listed = self.api.get(f"{self.path}/documents")["items"]
        for document in listed:  # the request did not come through: ask again
            self.api.post(f"{self.path}/documents/{document['id']}/erase", None, 202)
        self.upkeep.erase(self.base)
        open_ones = ErasureRepository(self.resources.storage).unfinished(self.base.tenant_id, self.base.id)
        left = [path.name for path in (self.folder / "knowledge").rglob("*") if path.is_file() and CANARY in path.read_bytes()]
        return [f"unfinished: {len(open_ones)}"] * bool(open_ones) + [f"left in {left}"] * bool(left)


def main(operation: str, url: str, folder: Path, stride: int) -> int:
    for module in ("agenthub.rag.engine", "agenthub.rag.embedding.encoders", "agenthub.services.knowledge.document_processing.routes"):
        importlib.import_module(module)
    file, outcome = folder / "state.json", folder / "outcome.json"
    in_child(lambda: save(file, Scene(folder, url).begin()))
    step, ended, problems = 1 - stride, KILLED, list[str]()
    while ended == KILLED and step < MOST_STEPS:
        step += stride
        ended = in_child(turn(operation, url, folder, step))
        problems += [f"before step {step}: {text}" for text in json.loads(outcome.read_text())]
    ended = in_child(turn(operation, url, folder, 0)) or ended
    problems += json.loads(outcome.read_text()) + ([] if ended == 0 else [f"step {step}: the child ended with {ended}"])
    sys.stdout.write(json.dumps({"operation": operation, "steps": step, "stride": stride, "problems": problems[:20]}) + "\n")
    return 1 if problems else 0


def turn(operation: str, url: str, folder: Path, step: int) -> Callable[[], None]:
    """Check, prepare, and die at this step; 0 only checks."""
    file, outcome = folder / "state.json", folder / "outcome.json"

    def run() -> None:
        outcome.write_text(json.dumps(["the check did not end"]))
        scene = Scene(folder, url, State(**json.loads(file.read_text())))
        outcome.write_text(json.dumps(scene.problems(operation)))
        if not step:
            return
        scene.prepare(operation)
        save(file, scene.known)
        failpoints.arm(f"all=kill@{step}")
        scene.act(operation)
        failpoints.arm("")

    return run


def save(file: Path, state: Any) -> None:
    file.write_text(json.dumps(vars(state)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
