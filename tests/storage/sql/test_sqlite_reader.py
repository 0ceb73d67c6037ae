"""The quick way of reads that every request makes: it sees every commit, is in nobody's way, and is never the last word."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.contract import Insert, Storage, Update
from agenthub.storage.schema import create_tables
from tests.contracts.storage.tables import EVERYTHING, THINGS, A, thing

Open = Callable[..., Storage]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def storage(file: Path, open_url: Open) -> Storage:
    storage = open_url(f"sqlite:///{file}")
    create_tables(storage, EVERYTHING)
    storage.commit([Insert(THINGS, thing("a"))])
    return storage


def test_every_thread_sees_what_any_process_committed(file: Path, storage: Storage, open_url: Open) -> None:
    other = open_url(f"sqlite:///{file}")
    seen: list[int] = []
    for _ in range(3):
        other.commit([Update(THINGS, A, "a", {})])
        reader = threading.Thread(target=lambda: seen.append((storage.get(THINGS, A, "a") or {})["version"]))
        reader.start()
        reader.join()
        seen.append((storage.get(THINGS, A, "a") or {})["version"])
    assert seen == [2, 2, 3, 3, 4, 4]


def test_closed_connections_are_opened_again(storage: Storage) -> None:
    assert storage.get(THINGS, A, "a")
    storage.close()
    assert storage.get(THINGS, A, "a")


def test_a_forked_child_reads_on_connections_of_its_own(storage: Storage) -> None:
    assert storage.get(THINGS, A, "a")
    child = os.fork()
    if child == 0:
        os._exit(0 if storage.get(THINGS, A, "a") else 1)
    assert os.waitpid(child, 0)[1] == 0
    storage.commit([Update(THINGS, A, "a", {})])
    assert (storage.get(THINGS, A, "a") or {})["version"] == 2


def test_a_missing_file_is_not_made_by_a_read(tmp_path: Path, open_url: Open) -> None:
    storage = open_url(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(StorageUnavailable):
        storage.get(THINGS, A, "a")
