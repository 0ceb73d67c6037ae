"""What a process of the race tests does: `racer.py URL race NAME ROUNDS NAMES | pairs NAME | fork`; prints JSON."""

from __future__ import annotations

import json
import os
import sys

from agenthub.core.errors import AlreadyExists
from agenthub.core.types import TenantId
from agenthub.storage.contract import Insert, Storage
from tests.contracts.storage.conftest import opened
from tests.contracts.storage.tables import EVENTS, THINGS, A, add_one, event, thing


def say(value: object) -> None:
    """Print a line of JSON at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def race(storage: Storage, name: str, rounds: str, names: str) -> dict[str, list[str]]:
    """Add one so many times, then try to take so many names that the others want too."""
    for _ in range(int(rounds)):
        add_one(storage, A, "k")
    won = []
    for i in range(int(names)):
        try:
            storage.commit([Insert(THINGS, thing(f"{name}{i}", "b", name=f"name {i:02}"))])
            won.append(f"name {i:02}")
        except AlreadyExists:
            continue
    return {"won": won}


def pairs(storage: Storage, name: str) -> None:
    """Insert a row in two tables at once, naming each pair that was acknowledged, until killed."""
    for i in range(10_000):
        key = f"{name}{i:05}"
        storage.commit([Insert(THINGS, thing(key)), Insert(EVENTS, event(key))])
        say(key)


def fork(storage: Storage) -> dict[str, object]:
    """Use the storage in a parent and its child at the same time."""
    before, times = storage.now(), 5 if storage.backend == "bigquery" else 50
    child = os.fork()
    if child == 0:
        fine = all(storage.ping() >= 0 for _ in range(times)) and storage.now() >= before
        storage.close()
        os._exit(0 if fine else 1)
    reads = sum(storage.count(THINGS, TenantId("nobody")) == 0 for _ in range(times))
    _, status = os.waitpid(child, 0)
    return {"child": status, "parent_reads": reads, "same": storage.now() >= before}


def main(url: str, work: str, *names: str) -> None:
    """Do the named work."""
    storage = opened(url)
    if work == "race":
        say(race(storage, *names))
    elif work == "pairs":
        pairs(storage, *names)
    else:
        say(fork(storage))


if __name__ == "__main__":
    main(*sys.argv[1:])
