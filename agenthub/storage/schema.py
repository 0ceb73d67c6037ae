"""The schema of a storage: migrate it, ask for its revision, refuse to serve without it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.contract import Storage, Table
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.tables import metadata_for

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSIONS: Final = MIGRATIONS / "versions"

_log = logging.getLogger("agenthub.storage")


def migrate(storage: Storage, versions: Path = VERSIONS) -> str | None:
    """Bring the schema to the newest revision and return it; safe to run from several processes at once.

    A schema newer than this code is left alone. Raises: StorageUnavailable when the database can't be reached or refuses.
    """
    if not isinstance(storage, SqlStorage):
        return None
    with _session(storage) as connection:
        present = _revision(connection)
        if _is_newer(present, versions):
            _log.warning("schema revision %s is newer than this release; left as it is", present)
            return present
        connection.commit()
        command.upgrade(_config(connection, versions), "head")
        return _revision(connection)


def schema_revision(storage: Storage) -> str | None:
    """The revision of the database's schema; None for memory and for an empty database.

    Raises: StorageUnavailable when the database can't be reached.
    """
    if not isinstance(storage, SqlStorage):
        return None
    return storage.read(_revision)


def check_schema(storage: Storage, versions: Path = VERSIONS) -> None:
    """Return if this code can serve from the database as it is; the embedded SQLite file is migrated first.

    A newer schema is accepted with a warning: while a release rolls out, old processes run beside new ones, and migrations
    only add. Raises: StorageUnavailable, saying what to run, when PostgreSQL is not migrated.
    """
    if storage.backend == "sqlite":
        migrate(storage, versions)
        return
    present, wanted = schema_revision(storage), _head(versions)
    if not isinstance(storage, SqlStorage) or present == wanted:
        return
    if not _is_newer(present, versions):
        raise StorageUnavailable(f"the database is at schema revision {present or 'none'}, this release needs {wanted}: run `make migrate`")
    _log.warning("schema revision %s is newer than this release's %s", present, wanted)


def create_tables(storage: Storage, tables: Iterable[Table]) -> None:
    """Create tables outside of any migration, for tests; memory needs none."""
    if isinstance(storage, SqlStorage):
        with _reached(), storage.engine.begin() as connection:
            metadata_for(tables).create_all(connection)


def differences(storage: Storage, tables: Iterable[Table]) -> list[str]:
    """What a migration would still have to change so that the database has exactly these tables; empty when nothing."""
    if not isinstance(storage, SqlStorage):
        return []
    with _reached(), storage.engine.connect() as connection:
        changes = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), metadata_for(tables))
    return [repr(change) for change in changes]


def draft(storage: Storage, tables: Iterable[Table], message: str, versions: Path = VERSIONS) -> Path | None:
    """Write the revision that takes a migrated database to these tables; None when it has them already."""
    if not isinstance(storage, SqlStorage) or not differences(storage, tables):
        return None
    number = f"{len(list(versions.glob('[0-9]*.py'))) + 1:04d}"
    with _session(storage) as connection:
        config = _config(connection, versions)
        config.attributes["metadata"] = metadata_for(tables)
        script = command.revision(config, message, autogenerate=True, rev_id=number)
    path = getattr(script, "path", None)
    return Path(path) if path else None


def _config(connection: sa.Connection, versions: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", _escaped(MIGRATIONS))
    config.set_main_option("version_locations", _escaped(versions))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _scripts(versions: Path) -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS), version_locations=[str(versions)])


def _head(versions: Path) -> str | None:
    return _scripts(versions).get_current_head()


def _is_newer(revision: str | None, versions: Path) -> bool:
    known = {script.revision for script in _scripts(versions).walk_revisions()}
    return revision is not None and revision not in known


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _session(storage: SqlStorage) -> Iterator[sa.Connection]:
    with _reached(), storage.dialect.migration_session(storage.engine) as connection:
        yield connection


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        cause = str(getattr(error, "orig", error)).partition("\n")[0]
        raise StorageUnavailable(f"the schema can't be read or changed: {cause}", retry_after_seconds=2.0) from error
