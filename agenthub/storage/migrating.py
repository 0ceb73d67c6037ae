"""Changing a storage's schema: migrations, and drafts of new ones, by Alembic."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from agenthub.storage.contract import OwnSchema, Storage, Table
from agenthub.storage.schema import MIGRATIONS, VERSIONS, head_of, is_newer, reached, revision_of
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.tables import metadata_for

_log = logging.getLogger("agenthub.storage")


def migrate(storage: Storage, versions: Path = VERSIONS, tables: Sequence[Table] = ()) -> str | None:
    """Bring the schema to the newest revision and return it; safe to run from several processes at once.

    `tables` are all there are: what BigQuery's are made from, which has no revisions of its own. A schema newer than this code
    is left alone. Raises: StorageUnavailable when the database can't be reached or refuses.
    """
    if storage.own_schema is not None:
        return _migrate_own(storage.own_schema, versions, tables)
    if not isinstance(storage, SqlStorage):
        return None
    with _session(storage) as connection:
        present = revision_of(connection)
        if is_newer(present, versions):
            _log.warning("schema revision %s is newer than this release; left as it is", present)
            return present
        connection.commit()
        command.upgrade(_config(connection, versions), "head")
        return revision_of(connection)


def _migrate_own(own: OwnSchema, versions: Path, tables: Sequence[Table]) -> str | None:
    present = own.revision()
    if is_newer(present, versions):
        _log.warning("schema revision %s is newer than this release; left as it is", present)
        return present
    head = head_of(versions)
    own.bring_to(tables, head or "")
    return head


def differences(storage: Storage, tables: Iterable[Table]) -> list[str]:
    """What a migration would still have to change so that the database has exactly these tables; empty when nothing."""
    if not isinstance(storage, SqlStorage):
        return []
    with reached(), storage.engine.connect() as connection:
        changes = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": False}), metadata_for(tables))
    return [repr(change) for change in changes]


def draft(storage: Storage, tables: Iterable[Table], message: str, versions: Path = VERSIONS) -> Path | None:
    """Write the revision that takes a migrated database to these tables; None when it has them already."""
    if not isinstance(storage, SqlStorage) or not differences(storage, tables):
        return None
    number = f"{max((int(path.name[:4]) for path in versions.glob('[0-9]*.py')), default=0) + 1:04d}"
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


@contextmanager
def _session(storage: SqlStorage) -> Iterator[sa.Connection]:
    with reached(), storage.dialect.migration_session(storage.engine) as connection:
        yield connection
