"""The embedded file under killed processes, held locks and damage."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.contract import EVERY_TENANT, Insert, Storage, Update
from agenthub.storage.schema import create_tables
from agenthub.storage.sql.backend import SqlStorage
from tests.contracts.storage.tables import EVENTS, EVERYTHING, THINGS, A, thing

Open = Callable[..., Storage]
ROOT = Path(__file__).parents[3]
RACER = ROOT / "tests/contracts/storage/racer.py"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.db"


@pytest.fixture
def storage(file: Path, open_url: Open) -> Storage:
    storage = open_url(f"sqlite:///{file}")
    create_tables(storage, EVERYTHING)
    return storage


def write_pairs(file: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(RACER), f"sqlite:///{file}", "pairs", name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)})


def test_four_killed_writers_leave_a_sound_file(file: Path, storage: Storage) -> None:
    acknowledged: set[str] = set()
    for turn in range(2):
        writers = [write_pairs(file, f"{turn}{name}") for name in "wxyz"]
        for writer in writers:
            assert writer.stdout is not None
            acknowledged |= {json.loads(writer.stdout.readline()) for _ in range(3)}
        for writer in writers:
            writer.kill()
        for writer in writers:
            assert writer.stdout is not None
            acknowledged |= {json.loads(line) for line in writer.stdout if line.endswith("\n")}
            writer.wait(timeout=60)
            writer.stdout.close()
        raw = sqlite3.connect(file)
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        keys = {key for (key,) in raw.execute("SELECT id FROM things")}
        assert acknowledged <= keys
        assert keys == {key for (key,) in raw.execute("SELECT id FROM events")}
        raw.close()
    storage.commit([Insert(THINGS, thing("after"))])
    assert storage.count(THINGS, EVERY_TENANT) == storage.count(EVENTS, EVERY_TENANT) + 1


def test_a_killed_transaction_leaves_nothing(file: Path, storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    script = (
        "import os, signal, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "c.execute('UPDATE things SET number = 99'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(file)], check=False).returncode == -9
    assert storage.get(THINGS, A, "k") == thing("k")
    assert storage.commit([Update(THINGS, A, "k", {"number": 2}, expected_version=1)]) == [thing("k", number=2, version=2)]


def test_a_lock_held_by_another_process_is_waited_for(file: Path, storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
    assert storage.get(THINGS, A, "k") == thing("k")  # readers never wait
    assert storage.commit([Update(THINGS, A, "k", {"number": 2})]) == [thing("k", number=2, version=2)]
    other.close()


def test_a_lock_held_for_ever_ends_in_an_error(file: Path, storage: Storage) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable) as refusal:
        storage.commit([Insert(THINGS, thing("k"))])
    assert refusal.value.retry_after_seconds
    other.execute("ROLLBACK")
    other.close()
    storage.commit([Insert(THINGS, thing("k"))])


def test_every_connection_is_durable_and_logs_ahead(storage: Storage) -> None:
    assert isinstance(storage, SqlStorage)
    with storage.engine.connect() as connection:
        values = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_file_that_is_no_database_is_refused(file: Path, open_url: Open) -> None:
    file.write_bytes(b"this is not a database" * 500)
    with pytest.raises(StorageUnavailable, match="can't be used"):
        open_url(f"sqlite:///{file}")


def test_a_file_without_tables_says_what_to_run(file: Path, open_url: Open) -> None:
    storage = open_url(f"sqlite:///{file}")
    with pytest.raises(StorageUnavailable, match="make migrate"):
        storage.get(THINGS, A, "k")


def test_directories_are_made(tmp_path: Path, open_url: Open) -> None:
    open_url(f"sqlite:///{tmp_path}/a/b/rows.db").ping()
    assert (tmp_path / "a/b/rows.db").exists()
