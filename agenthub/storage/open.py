"""Opens the one backend that the settings name; only its code is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Flask

from agenthub.core.errors import SettingsError, StorageUnavailable
from agenthub.storage.configuration import BigQuerySettings, StorageSettings, sqlite_path
from agenthub.storage.contract import Storage
from agenthub.storage.filesystem import refuse_volatile

if TYPE_CHECKING:
    from agenthub.storage.sql.backend import SqlStorage


def open_storage(settings: StorageSettings, app: Flask) -> Storage:
    """The storage of these settings, reachable now; its schema is not looked at (`schema.check_schema` does).

    Raises: SettingsError when SQLite would lose the rows or a driver is missing; StorageUnavailable, saying what to do,
    when PostgreSQL can't be reached.
    """
    if settings.backend == "memory":
        from agenthub.storage.memory import MemoryStorage

        return MemoryStorage()
    if settings.backend == "sqlite":
        path = sqlite_path(settings.url)
        refuse_volatile(path, on_cloud_run=settings.on_cloud_run, accept_loss=settings.accept_ephemeral_sqlite)
        path.parent.mkdir(parents=True, exist_ok=True)
        from agenthub.storage.sql.sqlite import open_sqlite

        return _reached(open_sqlite(settings, app), settings)
    if settings.bigquery is not None:
        return _open_bigquery(settings, settings.bigquery)
    try:
        from agenthub.storage.sql.postgresql import open_postgresql
    except ImportError as error:
        raise SettingsError(
            [f"DATABASE_URL needs a driver that is not installed ({error.name}): pip install -r requirements.txt"]
        ) from error
    return _reached(open_postgresql(settings, app), settings)


def _open_bigquery(settings: StorageSettings, bigquery: BigQuerySettings) -> Storage:
    try:
        from agenthub.storage.bigquery.backend import BigQueryStorage
    except ImportError as error:
        raise SettingsError(
            [f"GOOGLE_CLOUD_PROJECT needs a package that is not installed ({error.name}): pip install -r requirements.txt"]
        ) from error
    storage = BigQueryStorage(bigquery)
    try:
        storage.ping()
    except StorageUnavailable as error:
        storage.close()
        raise StorageUnavailable(
            f"{settings.describe()} can't be used: {error.message}. {_REMEDIES['bigquery']}", retry_after_seconds=error.retry_after_seconds
        ) from error
    storage.close()  # a server that forks after this shares no connection with its children
    return storage


_REMEDIES: Final = {
    "postgresql": "Check that the server runs, and host, port, database, user and password in DATABASE_URL",
    "bigquery": "Check GOOGLE_CLOUD_PROJECT, the credentials (gcloud auth application-default login, or the service account) and its roles",
    "sqlite": "Check that this user may write the file and its directory, and that it is an SQLite database",
}


def _reached(storage: SqlStorage, settings: StorageSettings) -> Storage:
    try:
        storage.ping()
    except StorageUnavailable as error:
        cause = str(error.__cause__).partition("\n")[0]
        storage.close()
        raise StorageUnavailable(
            f"{settings.describe()} can't be used: {cause}. {_REMEDIES[settings.backend]}",
            retry_after_seconds=error.retry_after_seconds,
        ) from error
    storage.engine.dispose()  # a server that forks after this shares no connection with its children
    return storage
