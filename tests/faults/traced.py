"""One knowledge base over SQLite, for T3: `python -m tests.faults.traced prepare|write|check FOLDER`. `write` is run under strace."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flask import Flask

from agenthub.core.errors import AgentHubError
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.volume import Volume
from agenthub.repositories.knowledge.inspecting import Inspections
from agenthub.storage.configuration import StorageSettings
from agenthub.storage.migrating import migrate
from agenthub.storage.sql.sqlite import open_sqlite
from tests.repositories.knowledge.world import World

BASE = "0" * 26


def open_world(folder: Path) -> World:
    storage = open_sqlite(StorageSettings("sqlite", f"sqlite:///{folder}/agenthub.sqlite3"), Flask("traced"))
    world = World(storage=storage, base_id=BASE)
    world.volume = Volume(folder / "knowledge", mapping="never", free_space_floor_bytes=0)
    world.engine = KnowledgeEngine(world.volume, RagSettings(mapping="never"))
    return world


def main(action: str, folder: Path) -> int:
    world = open_world(folder)
    if action == "prepare":
        migrate(world.storage)
        world.create()
        world.add("old", "the old text")
        return 0
    if action == "write":
        world.content()
        (folder / "ready").touch()
        try:
            world.add("new", "the new text")
        except (AgentHubError, OSError) as error:
            sys.stdout.write(json.dumps({"refused": type(error).__name__}) + "\n")
            return 0
        sys.stdout.write(json.dumps({"acknowledged": True}) + "\n")
        return 0
    found = world.content()
    problems = [str(one) for one in Inspections(world.storage, world.engine).inspect(world.base).problems if one.kind != "row"]
    world.add("later", "it takes writes")
    sys.stdout.write(json.dumps({"content": found, "problems": problems}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
