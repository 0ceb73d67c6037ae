"""Keeping the files that a backup's rows name, for as long as the backup may be restored (RELIABILITY.md B17)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agenthub.core.errors import NotFound, VersionConflict
from agenthub.core.ids import new_id
from agenthub.core.types import EVERY_TENANT
from agenthub.repositories.knowledge.knowledge_bases import ACTIVE, KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import OPERATIONS, PINS, KnowledgeOperation, Pin
from agenthub.repositories.operations import row_of
from agenthub.storage.contract import MAX_PAGE, And, Compare, DbNow, Insert, Query, Require, Row, RowReader, Storage

KEPT_SECONDS: Final = 30 * 86400.0
"""How long a backup's generations are kept unless told otherwise."""
AUTHOR: Final = "backup"


def pin_for_backup(storage: Storage, moment: RowReader, seconds: float) -> int:
    """Pin the current generation of each knowledge base at that moment, and the one before, for so long; how many bases.

    Done after the moment began and before anything can have been collected since: collecting leaves what was current within
    the last two hours. A knowledge base that was deleted since is not pinned.
    """
    pinned = 0
    for base in _bases(moment):
        pins = [_pin(storage, base, one) for one in _kept(moment, base)]
        writes = [Insert(PINS, {**row_of(pin), "expires_at": DbNow(seconds)}) for pin in pins]
        try:
            storage.commit([*writes, Require(KnowledgeBaseRepository.table, base.tenant_id, base.id, ACTIVE)])
        except (NotFound, VersionConflict):
            continue
        pinned += 1
    return pinned


def _bases(moment: RowReader) -> Iterator[KnowledgeBase]:
    after: tuple[str, ...] | None = None
    while True:
        rows = moment.find(KnowledgeBaseRepository.table, EVERY_TENANT, Query(ACTIVE, limit=MAX_PAGE, after=after))
        yield from (KnowledgeBaseRepository.from_row(row) for row in rows)
        if len(rows) < MAX_PAGE:
            return
        after = (rows[-1]["id"],)


def _kept(moment: RowReader, base: KnowledgeBase) -> list[Row]:
    """The records of the current generation and the one before, one each."""
    own = Compare("knowledge_base_id", "eq", base.id)
    found: list[Row] = []
    for generation in (base.generation, base.generation - 1):
        where = And((own, Compare("generation", "eq", generation)))
        found += moment.find(OPERATIONS, base.tenant_id, Query(where, limit=1))
    return found


def _pin(storage: Storage, base: KnowledgeBase, record: Row) -> Pin:
    operation = KnowledgeOperation(**record)
    pointer = operation.pointer if operation.generation != base.generation else base.pointer
    return Pin(
        id=new_id(),
        tenant_id=base.tenant_id,
        knowledge_base_id=base.id,
        name=None,
        name_key=None,
        generation=pointer.generation,
        epoch=pointer.epoch,
        manifest_name=pointer.name,
        manifest_sha256=pointer.sha256,
        manifest_length_bytes=pointer.length_bytes,
        document_count=operation.document_count,
        chunk_count=operation.chunk_count,
        size_bytes=operation.size_bytes,
        created_by=AUTHOR,
        created_at=storage.now(),
        expires_at=None,
    )
