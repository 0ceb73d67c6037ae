"""What revision a database's schema has, and whether this release can serve from it. `migrating.py` changes it, and loads Alembic."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from agenthub.core.errors import StorageUnavailable
from agenthub.storage.contract import Storage, Table
from agenthub.storage.gate import CHANGES, GATE
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.tables import metadata_for

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSIONS: Final = MIGRATIONS / "versions"
_REVISION: Final = re.compile(r"([0-9]{4})_\w+\.py\Z")
_SAID: Final = re.compile(r"""^(revision|down_revision) = ["'](\w+)["']""", re.MULTILINE)
_VERSION: Final = sa.table("alembic_version", sa.column("version_num"))

_log = logging.getLogger("agenthub.storage")


def schema_revision(storage: Storage) -> str | None:
    """The revision of the database's schema; None for memory and for an empty database.

    Raises: StorageUnavailable when the database can't be reached.
    """
    if storage.own_schema is not None:
        return storage.own_schema.revision()
    if not isinstance(storage, SqlStorage):
        return None
    return storage.read(revision_of)


def check_schema(storage: Storage, versions: Path = VERSIONS) -> None:
    """Return if this code can serve from the database as it is; the embedded SQLite file is migrated first.

    A newer schema is accepted with a warning: while a release rolls out, old processes run beside new ones, and migrations
    only add. Raises: StorageUnavailable, saying what to run, when PostgreSQL or BigQuery is not migrated.
    """
    if storage.own_schema is None and not isinstance(storage, SqlStorage):
        return
    present, wanted = schema_revision(storage), head_of(versions)
    if present == wanted:
        return
    if is_newer(present, versions):
        _log.warning("schema revision %s is newer than this release's %s", present, wanted)
    elif storage.backend == "sqlite":
        import_module("agenthub.storage.migrating").migrate(storage, versions)  # a fifth of a start, so loaded only here
    else:
        raise StorageUnavailable(f"the database is at schema revision {present or 'none'}, this release needs {wanted}: run `make migrate`")


def create_tables(storage: Storage, tables: Iterable[Table]) -> None:
    """Create tables outside of any migration, for tests; memory needs none."""
    if storage.own_schema is not None:
        storage.own_schema.make(list(tables))
    if isinstance(storage, SqlStorage):
        with reached(), storage.engine.begin() as connection:
            metadata_for(dict.fromkeys([GATE, CHANGES, *tables])).create_all(connection)


def revisions_of(versions: Path) -> list[str]:
    """The revisions there are, oldest first: each says which one it follows, whatever their numbers."""
    followers: dict[str | None, str] = {}
    for path in versions.iterdir():
        if _REVISION.match(path.name):
            said = dict(_SAID.findall(path.read_text(encoding="utf-8")))
            followers[said.get("down_revision")] = said["revision"]
    chain: list[str] = []
    while (following := followers.get(chain[-1] if chain else None)) is not None:
        chain.append(following)
    return chain


def head_of(versions: Path) -> str | None:
    """The newest revision."""
    return next(reversed(revisions_of(versions)), None)


def is_newer(revision: str | None, versions: Path) -> bool:
    """Whether a database's revision is one that this release does not know."""
    return revision is not None and revision not in revisions_of(versions)


def revision_of(connection: sa.Connection) -> str | None:
    """The revision that the database says it has."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    found: str | None = connection.execute(sa.select(_VERSION.c.version_num)).scalar()
    return found


@contextmanager
def reached() -> Iterator[None]:
    """Turn the driver's errors into ours. Raises: StorageUnavailable."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        cause = str(getattr(error, "orig", error)).partition("\n")[0]
        raise StorageUnavailable(f"the schema can't be read or changed: {cause}", retry_after_seconds=2.0) from error
