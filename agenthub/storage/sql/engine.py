"""Makes the engine, which Flask-SQLAlchemy owns."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from agenthub.storage.configuration import StorageSettings, postgresql_target, sqlite_path
from agenthub.storage.sql import postgresql, sqlite
from agenthub.storage.sql.backend import SqlStorage
from agenthub.storage.sql.dialect import SqlDialect
from agenthub.storage.sql.watchdog import Watchdog


def open_sql(settings: StorageSettings, app: Flask) -> SqlStorage:
    """The storage over the app's engine; nothing is connected yet."""
    url, options, dialect = _postgresql(settings) if settings.backend == "postgresql" else _sqlite(settings)
    options |= {"json_serializer": _json_text, "json_deserializer": orjson.loads}
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    extension = SQLAlchemy(app)
    with app.app_context():
        engine = extension.engine
    if settings.backend == "sqlite":
        sqlite.install(engine)
    return SqlStorage(engine, dialect)


def _json_text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _pool(settings: StorageSettings) -> dict[str, Any]:
    return {
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout_seconds,
    }


def _postgresql(settings: StorageSettings) -> tuple[sa.URL, dict[str, Any], SqlDialect]:
    target = postgresql_target(settings.url)
    watchdog = Watchdog()
    options = postgresql.engine_options(target, watchdog, pool=_pool(settings))
    return postgresql.engine_url(target), options, postgresql.PostgresqlDialect(watchdog, several_hosts=len(target.hosts) > 1)


def _sqlite(settings: StorageSettings) -> tuple[sa.URL, dict[str, Any], SqlDialect]:
    url = sa.URL.create("sqlite", database=str(sqlite_path(settings.url)))
    return url, sqlite.engine_options(pool=_pool(settings)), sqlite.SqliteDialect()
