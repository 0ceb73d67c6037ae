"""Opening imports and touches only what the settings name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from agenthub.core.errors import SettingsError
from agenthub.storage.configuration import StorageSettings
from agenthub.storage.open import open_storage

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from flask import Flask
from agenthub.storage.configuration import parse_database_url
from agenthub.storage.open import open_storage
before = [name for name in ("sqlalchemy", "psycopg2", "sqlite3") if name in sys.modules]
storage = open_storage(parse_database_url(sys.argv[1]), Flask("x"))
print(json.dumps([before, storage.backend, [name for name in ("flask_sqlalchemy", "psycopg2") if name in sys.modules]]))
"""


def loaded(url: str) -> list[object]:
    """What a new process has imported before and after opening the URL."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, url], cwd=ROOT, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_only_the_chosen_backend_is_imported(tmp_path: Path, postgresql_url: str) -> None:
    assert loaded("memory://") == [[], "memory", []]
    assert loaded(f"sqlite:///{tmp_path}/x.db") == [[], "sqlite", ["flask_sqlalchemy"]]
    assert loaded(postgresql_url) == [[], "postgresql", ["flask_sqlalchemy", "psycopg2"]]


def test_sqlite_in_memory_file_systems_is_refused_unless_accepted() -> None:
    url = "sqlite:////dev/shm/agenthub-test/x.db"
    with pytest.raises(SettingsError, match="AGENTHUB_ACCEPT_EPHEMERAL_SQLITE"):
        open_storage(StorageSettings("sqlite", url), Flask("x"))
    assert not Path("/dev/shm/agenthub-test").exists()


def test_sqlite_on_cloud_run_is_refused(tmp_path: Path) -> None:
    settings = StorageSettings("sqlite", f"sqlite:///{tmp_path}/x.db", on_cloud_run=True)
    with pytest.raises(SettingsError, match="Cloud Run"):
        open_storage(settings, Flask("x"))
