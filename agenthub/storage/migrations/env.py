"""Run by Alembic, never imported: takes its connection and schema from `agenthub.storage.migrating`."""

from __future__ import annotations

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from agenthub.storage.sql.tables import Instant


def render_item(kind: str, item: object, autogen: AutogenContext) -> str | Literal[False]:
    """How our own column type is written in a drafted revision."""
    if kind == "type" and isinstance(item, Instant):
        autogen.imports.add("from agenthub.storage.sql.tables import Instant")
        return "Instant()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    render_as_batch=True,  # SQLite can't alter a table: it is rebuilt
    render_item=render_item,
    compare_type=False,  # the two databases name one type differently
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
