"""After rows were restored from a backup: knowledge bases begin a new epoch, and forget generations whose files are gone.

The epoch is the time of the restore, so whatever was committed after the backup and is lost now never passes for what comes next
(RELIABILITY.md B7). Generations of the backup's past may have been collected since; their records would promise what can't be
opened, and would keep collecting from ever running again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agenthub.core.errors import VolumeUnavailable
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.references import Pointer
from agenthub.rag.segment import CHUNKS, HEADER, VECTORS, file_of
from agenthub.repositories.knowledge.knowledge_bases import ACTIVE, KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.ledger import OPERATIONS, PINS
from agenthub.repositories.knowledge.retention import Retention
from agenthub.storage.contract import MAX_PAGE, And, Compare, DeleteWhere, Query, Storage, Update, Write


@dataclass(frozen=True, slots=True)
class Settled:
    """One knowledge base after a restore: whether its current generation can be opened, and how many older ones were forgotten."""

    knowledge_base_id: str
    name: str
    readable: bool
    forgotten: int


def begin_epoch(storage: Storage, held: Sequence[Write] = ()) -> int:
    """Raise the epoch of every knowledge base; `held` are conditions for each commit. How many there are; harmless to repeat."""
    epoch, count = int(storage.now().timestamp()), 0
    for base in _bases(storage):
        later = max(epoch, base.epoch + 1)
        row = Update(KnowledgeBaseRepository.table, EVERY_TENANT, base.id, {"epoch": later}, base.version)
        records = [Update(OPERATIONS, EVERY_TENANT, key, {"epoch": later}) for key in _records(storage, base)]
        storage.commit([*held, row, *records])
        count += 1
    return count


def _records(storage: Storage, base: KnowledgeBase) -> list[str]:
    """The records of the current generation, which say what the row says."""
    where = And((Compare("knowledge_base_id", "eq", base.id), Compare("generation", "eq", base.generation)))
    return [record["id"] for record in storage.find(OPERATIONS, base.tenant_id, Query(where, limit=MAX_PAGE))]


def settle(storage: Storage, engine: KnowledgeEngine, held: Sequence[Write] = ()) -> Iterator[Settled]:
    """Compare what each knowledge base's rows promise with the files that are there.

    Raises: VolumeUnavailable when the volume can't be read at all.
    """
    for base in _bases(storage):
        names = set(engine.volume.files(base.id))
        lost = [one for one in Retention(storage).retained_generations(base, storage.now()) if not _opens(engine, base, one, names)]
        older = [pointer for pointer in lost if pointer.sha256 != base.manifest_sha256]
        for pointer in older:
            _forget(storage, base, pointer, held)
        yield Settled(base.id, base.name, readable=len(older) == len(lost), forgotten=len(older))


def _opens(engine: KnowledgeEngine, base: KnowledgeBase, pointer: Pointer, names: set[str]) -> bool:
    if pointer.name not in names:
        return False
    try:
        manifest = engine.read_manifest(base.id, pointer)
    except VolumeUnavailable:
        return False
    return all(file_of(entry.id, name) in names for entry in manifest.segments for name in (HEADER, VECTORS, CHUNKS))


def _forget(storage: Storage, base: KnowledgeBase, pointer: Pointer, held: Sequence[Write]) -> None:
    own = (Compare("knowledge_base_id", "eq", base.id), Compare("generation", "eq", pointer.generation))
    where = And((*own, Compare("manifest_sha256", "eq", pointer.sha256)))
    storage.commit([*held, DeleteWhere(OPERATIONS, base.tenant_id, where), DeleteWhere(PINS, base.tenant_id, where)])


def _bases(storage: Storage) -> Iterator[KnowledgeBase]:
    after: tuple[str, ...] | None = None
    while True:
        rows = storage.find(KnowledgeBaseRepository.table, EVERY_TENANT, Query(ACTIVE, limit=MAX_PAGE, after=after))
        yield from (KnowledgeBaseRepository.from_row(row) for row in rows)
        if len(rows) < MAX_PAGE:
            return
        after = (rows[-1]["id"],)
