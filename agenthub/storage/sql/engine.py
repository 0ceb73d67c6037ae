"""Makes the engine, which Flask-SQLAlchemy owns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from agenthub.storage.configuration import StorageSettings


def make_engine(app: Flask, url: sa.URL, options: Mapping[str, Any], settings: StorageSettings) -> sa.Engine:
    """The app's engine, with the pool of the settings; nothing is connected yet."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.pool_timeout_seconds,
        "json_serializer": _json_text,
        "json_deserializer": orjson.loads,
        **options,
    }
    extension = SQLAlchemy(app)
    with app.app_context():
        return extension.engine


def _json_text(value: Any) -> str:
    return orjson.dumps(value).decode()
