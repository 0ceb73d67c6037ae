"""Storages of every kind for tests of knowledge bases: what a test begins with is made in memory and moved over in one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from agenthub.repositories.activity import ACTIVITY_EVENTS
from agenthub.repositories.knowledge.collecting import GARBAGE
from agenthub.repositories.knowledge.documents import DOCUMENT_HISTORY, DocumentRepository
from agenthub.repositories.knowledge.erasing import ErasureRepository
from agenthub.repositories.knowledge.evaluations import EvaluationRepository, QuestionRepository
from agenthub.repositories.knowledge.heat import HeatRepository
from agenthub.repositories.knowledge.job_queue import TURNS
from agenthub.repositories.knowledge.jobs import JobItemRepository, JobRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import LEASES
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS, PINS, TOMBSTONES
from agenthub.repositories.knowledge.rag_queries import RagQueryRepository
from agenthub.repositories.knowledge.reembeddings import MIRRORS, ReembeddingRepository
from agenthub.repositories.knowledge.segment_checks import SEGMENT_CHECKS
from agenthub.repositories.operations import APPLIED_OPERATIONS, AUDIT_EVENTS
from agenthub.storage.contract import (
    ALL,
    EVERY_TENANT,
    And,
    Compare,
    DbNow,
    Delete,
    DeleteWhere,
    Filter,
    Insert,
    Or,
    Query,
    Question,
    Require,
    Row,
    RowReader,
    Storage,
    Table,
    TenantScope,
    Update,
    Write,
)
from agenthub.storage.memory import MemoryStorage
from agenthub.storage.schema import create_tables
from tests.contracts.storage.conftest import opened
from tests.repositories.knowledge.world import World

TABLES: Final = (
    *(APPLIED_OPERATIONS, AUDIT_EVENTS, DOCUMENT_HISTORY, OPERATIONS, INTENTS, TOMBSTONES, PINS, SEGMENT_CHECKS, LEASES, GARBAGE),
    *(kind.table for kind in (KnowledgeBaseRepository, DocumentRepository, ErasureRepository, HeatRepository)),
    *(kind.table for kind in (RagQueryRepository, QuestionRepository, EvaluationRepository, JobRepository, JobItemRepository)),
    *(TURNS, ACTIVITY_EVENTS, ReembeddingRepository.table, MIRRORS),
)
SERVERS: Final = {"postgresql": "postgresql_database", "bigquery": "bigquery_url"}


@dataclass
class Hands:
    """How far a clock was moved by hand."""

    ahead_seconds: float = 0.0

    def wait(self, seconds: float) -> None:
        self.ahead_seconds += seconds


class Passing(Storage):
    """A storage before another one, to be overridden in part."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.backend = inner.backend

    def get(self, table: Table, tenant: TenantScope, key: str) -> Row | None:
        return self.inner.get(table, tenant, key)

    def get_many(self, table: Table, tenant: TenantScope, keys: Sequence[str]) -> dict[str, Row]:
        return self.inner.get_many(table, tenant, keys)

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        return self.inner.find(table, tenant, query)

    def at_one_moment(self) -> AbstractContextManager[RowReader]:
        return self.inner.at_one_moment()

    def count(self, table: Table, tenant: TenantScope, where: Filter = ALL) -> int:
        return self.inner.count(table, tenant, where)

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        return self.inner.commit(writes)

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        self.inner.append(table, rows)

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        return self.inner.ask(question, parameters)

    def now(self) -> datetime:
        return self.inner.now()

    def ping(self) -> float:
        return self.inner.ping()

    def close(self) -> None:
        self.inner.close()


class Handled(Passing):
    """A storage whose clock is moved by hand, and which remembers the tables that were written to."""

    def __init__(self, inner: Storage, hands: Hands, written: dict[str, Table] | None = None) -> None:
        super().__init__(inner)
        self.hands = hands
        self.written = {} if written is None else written

    def find(self, table: Table, tenant: TenantScope, query: Query) -> list[Row]:
        return self.inner.find(table, tenant, replace(query, where=self._shifted(query.where)))

    def count(self, table: Table, tenant: TenantScope, where: Filter = ALL) -> int:
        return self.inner.count(table, tenant, self._shifted(where))

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        self.written.update((write.table.name, write.table) for write in writes)
        return self.inner.commit([self._moved(write) for write in writes])

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        self.written[table.name] = table
        self.inner.append(table, [self._row(row) for row in rows])

    def now(self) -> datetime:
        return self.inner.now() + timedelta(seconds=self.hands.ahead_seconds)

    def _moved(self, write: Write) -> Write:
        if isinstance(write, Insert):
            return replace(write, row=self._row(write.row))
        if isinstance(write, Update):
            return replace(write, changes=self._row(write.changes), where=self._shifted(write.where))
        if isinstance(write, Delete | Require | DeleteWhere):
            return replace(write, where=self._shifted(write.where))
        raise AssertionError(write)

    def _row(self, row: Row) -> Row:
        return {name: self._value(value) for name, value in row.items()}

    def _value(self, value: Any) -> Any:
        return DbNow(value.seconds + self.hands.ahead_seconds) if isinstance(value, DbNow) else value

    def _shifted(self, where: Filter) -> Filter:
        if isinstance(where, Compare):
            return replace(where, value=self._value(where.value))
        parts = tuple(self._shifted(part) for part in where.parts)
        return Or(parts) if isinstance(where, Or) else And(parts)


@dataclass
class Backend:
    """One kind of storage with the tables of knowledge bases, for the tests of a module, and one of the two vector engines."""

    storage: Storage
    milvus: bool
    written: dict[str, Table] = field(default_factory=dict)

    def world(self, make: Callable[[World], object], hands: Hands | None = None) -> World:
        """What `make` does to a new knowledge base in memory, moved here; nothing else is here then."""
        made = World(MemoryStorage(), milvus=self.milvus).create()
        make(made)
        made.storage = self.moved(made.storage, hands or Hands())
        return made

    def moved(self, source: Storage, hands: Hands) -> Handled:
        """The rows of a memory storage, here, and nothing else."""
        emptied = [DeleteWhere(table, EVERY_TENANT, ALL) for table in self.written.values()]
        inserts = [Insert(table, row) for table in TABLES for row in source.find(table, EVERY_TENANT, Query(limit=1000))]
        self.written.clear()
        target = Handled(self.storage, hands, self.written)
        if emptied or inserts:
            target.commit([*emptied, *inserts])
        return target


@contextmanager
def backend_of(request: pytest.FixtureRequest, kind: str, factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The storage of that kind, `memory`, `memory-milvus`, `sqlite`, `postgresql` or `bigquery`, with empty tables."""
    urls = {"memory": "memory://", "memory-milvus": "memory://"}
    if kind == "sqlite":
        urls[kind] = f"sqlite:///{factory.mktemp('rows')}/rows.sqlite3"
    storage = opened(urls.get(kind) or str(request.getfixturevalue(SERVERS[kind])))
    create_tables(storage, TABLES)
    yield Backend(storage, kind == "memory-milvus")
    storage.close()
