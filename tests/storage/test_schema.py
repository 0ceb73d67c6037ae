"""Migrations: drafted from tables, run once however many run them, and looked at before serving."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.contract import Insert, Storage, Table
from agenthub.storage.gate import CHANGES, GATE
from agenthub.storage.migrating import differences, migrate
from agenthub.storage.migrations import draft
from agenthub.storage.schema import check_schema, head_of, revisions_of, schema_revision
from tests.contracts.storage.tables import EVENTS, EVERYTHING, GLOBALS, THINGS, A, thing
from tests.servers.postgresql import create_database

Open = Callable[..., Storage]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Later:
    id: str
    name: str
    count: int
    added: str | None = None
    version: int = 1


LATER = Table.of("globals", Later, tenant=None, unique=[("name",)], indexes=[("added",)])
LONG = Table.of("a_table_with_quite_a_long_name", Later, tenant=None, unique=[("name", "count", "added", "version", "id")])


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """A history of two revisions."""
    path = tmp_path / "versions"
    path.mkdir()
    assert draft.draft_from([GATE, CHANGES, THINGS, EVENTS, GLOBALS], "first tables", path) == path / "0001_first_tables.py"
    assert draft.draft_from([GATE, CHANGES, THINGS, EVENTS, LATER, LONG], "more", path) == path / "0002_more.py"
    assert draft.draft_from([GATE, CHANGES, THINGS, EVENTS, LATER, LONG], "nothing", path) is None
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, open_url: Open, postgresql_url: str) -> Storage:
    """An empty database."""
    return open_url(create_database(postgresql_url) if request.param == "postgresql" else f"sqlite:///{tmp_path}/rows.db")


def test_a_migrated_database_has_exactly_the_tables(storage: Storage, versions: Path) -> None:
    assert schema_revision(storage) is None
    assert len(differences(storage, EVERYTHING)) > 3
    assert migrate(storage, versions) == "0002"
    assert schema_revision(storage) == "0002"
    assert differences(storage, [GATE, CHANGES, THINGS, EVENTS, LATER, LONG]) == []
    assert migrate(storage, versions) == "0002"
    storage.commit([Insert(THINGS, thing("k"))])
    check_schema(storage, versions)
    assert storage.get(THINGS, A, "k") == thing("k")


def test_an_older_database_keeps_its_rows(storage: Storage, versions: Path) -> None:
    later = versions / "0002_more.py"
    text = later.read_text()
    later.unlink()
    migrate(storage, versions)
    old = {"id": "g", "name": "n", "count": 1, "version": 1}
    storage.commit([Insert(GLOBALS, old)])
    later.write_text(text)
    assert migrate(storage, versions) == "0002"
    from_new = storage.commit([Insert(LATER, {"id": "h", "name": "m", "count": 2, "added": "x"})])
    assert from_new == [{"id": "h", "name": "m", "count": 2, "added": "x", "version": 1}]


def test_postgresql_is_not_served_unmigrated(postgresql_url: str, open_url: Open, versions: Path) -> None:
    storage = open_url(create_database(postgresql_url))
    with pytest.raises(StorageUnavailable, match="none, this release needs 0002: run `make migrate`"):
        check_schema(storage, versions)
    assert schema_revision(storage) is None
    later = versions / "0002_more.py"
    text = later.read_text()
    later.unlink()
    migrate(storage, versions)
    later.write_text(text)
    with pytest.raises(StorageUnavailable, match="0001, this release needs 0002"):
        check_schema(storage, versions)


def test_sqlite_migrates_itself(tmp_path: Path, open_url: Open, versions: Path) -> None:
    storage = open_url(f"sqlite:///{tmp_path}/rows.db")
    check_schema(storage, versions)
    assert schema_revision(storage) == "0002"


def test_a_newer_schema_is_served_with_a_warning(storage: Storage, versions: Path, caplog: pytest.LogCaptureFixture) -> None:
    migrate(storage, versions)
    (versions / "0002_more.py").unlink()
    with caplog.at_level(logging.WARNING):
        check_schema(storage, versions)
        assert migrate(storage, versions) == "0002"
    assert "newer" in caplog.text


def test_migrating_at_once_is_harmless(storage: Storage, versions: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: migrate(storage, versions), range(4))) == ["0002"] * 4
    assert differences(storage, [GATE, CHANGES, THINGS, EVENTS, LATER, LONG]) == []


def test_memory_has_no_schema(open_url: Open, versions: Path) -> None:
    storage = open_url("memory://")
    assert migrate(storage, versions) is None
    assert schema_revision(storage) is None
    check_schema(storage, versions)


def test_the_draft_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agenthub.storage.migrations.draft", "tests.contracts.storage.tables:EVERYTHING", "-m", "all"]
    done = subprocess.run(
        [*command, "--versions", str(tmp_path)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].strip() == str(tmp_path / "0001_all.py")
    assert "create_table('things'" in (tmp_path / "0001_all.py").read_text()


def test_the_newest_revision_is_the_last_of_the_chain_whatever_its_number(tmp_path: Path) -> None:
    for name, follows in (("0001", None), ("0003", "0001"), ("0002", "0003")):
        (tmp_path / f"{name}_tables.py").write_text(f'revision = "{name}"\ndown_revision = {follows!r}\n')
    assert revisions_of(tmp_path) == ["0001", "0003", "0002"]
    assert head_of(tmp_path) == "0002"
