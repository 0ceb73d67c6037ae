"""Developers: `python -m agenthub.storage.migrations.draft -m "add things" agenthub.repositories.tables:TABLES` writes a revision."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flask import Flask

from agenthub.storage.configuration import StorageSettings
from agenthub.storage.contract import Table
from agenthub.storage.migrating import draft, migrate
from agenthub.storage.schema import VERSIONS
from agenthub.storage.sql.sqlite import open_sqlite


def main(arguments: Sequence[str]) -> int:
    """Draft a revision from the difference between the newest revision and the tables; 0 also when there is none."""
    parser = argparse.ArgumentParser(description="Write the Alembic revision that brings the schema to the given tables.")
    parser.add_argument("tables", help="MODULE:NAME of a list of tables, or of a function that returns it")
    parser.add_argument("-m", "--message", required=True)
    parser.add_argument("--versions", type=Path, default=VERSIONS)
    options = parser.parse_args(arguments)
    path = draft_from(load_tables(options.tables), options.message, options.versions)
    sys.stdout.write(f"{path or 'The migrations make these tables already.'}\n")
    return 0


def load_tables(target: str) -> list[Table]:
    """The tables that MODULE:NAME names."""
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(module), name)
    return list(found() if callable(found) else found)


def draft_from(tables: Sequence[Table], message: str, versions: Path = VERSIONS) -> Path | None:
    """Write the revision, compared in a scratch SQLite file; None when the migrations make these tables already."""
    with tempfile.TemporaryDirectory() as directory:
        storage = open_sqlite(StorageSettings("sqlite", f"sqlite:///{directory}/draft.db"), Flask("draft"))
        migrate(storage, versions)
        path = draft(storage, tables, message, versions)
        storage.close()
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
