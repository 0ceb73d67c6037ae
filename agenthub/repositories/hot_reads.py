"""Who calls, and the knowledge base asked for, from the cache where the database takes a second to say (docs/adr/0027-hot-reads.md).

An answer is kept with the *marks* of the tables it was read from, as they were before it was read: random words on a cache server.
Whoever changes a row of such a table puts a new mark there after the commit and before anybody is told of it, so an older answer
is never used again, also one that was on its way. If the mark can't be put there, the writer waits until every kept answer is out of date.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from agenthub.cache.policy import HOT, MARK
from agenthub.core.errors import MalformedInput, OutcomeUnknown
from agenthub.core.json import canonical, digest, loads
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBaseRepository
from agenthub.repositories.platform.api_keys import API_KEYS
from agenthub.repositories.platform.organizations import ORGANIZATIONS
from agenthub.repositories.platform.sessions import SESSIONS
from agenthub.repositories.platform.users import USERS
from agenthub.storage.contract import (
    ALL,
    Column,
    ColumnType,
    DeleteWhere,
    Filter,
    Insert,
    OwnSchema,
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
from agenthub.storage.queries.principals import API_KEY_PRINCIPAL, SESSION_PRINCIPAL, with_row

SKEW_SECONDS: Final = 2.0
"""By how much clocks of machines that share a cache may differ."""

_TRIES: Final = 3
_EXPIRING: Final = timedelta(minutes=1)
"""What ends within this time is not kept: its use moves its end."""

_BASES: Final = KnowledgeBaseRepository.table
_QUIET: Final[Mapping[str, frozenset[str]]] = {
    SESSIONS.name: frozenset({"last_seen_at", "idle_expires_at"}),
    API_KEYS.name: frozenset({"last_used_at"}),
}
"""Columns that note a use: they change who may do what for nobody, so their change puts no mark."""


@dataclass(frozen=True, slots=True)
class _Hot:
    """A question whose answers are kept: the tables it reads as a whole, the column that notes a use, and whether it takes a row's key."""

    tables: tuple[Table, ...]
    noted: str
    keyed: bool

    def marks(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the marks that an answer stands under."""
        whole = tuple(f"mark/{table.name}" for table in self.tables)
        return (*whole, f"mark/{_BASES.name}", f"mark/{_BASES.name}/{parameters['row_key']}") if self.keyed else whole


_SESSION: Final = _Hot((SESSIONS, USERS, ORGANIZATIONS), "last_seen_at", keyed=False)
_KEY: Final = _Hot((API_KEYS, USERS, ORGANIZATIONS), "last_used_at", keyed=False)
_QUESTIONS: Final[Mapping[str, _Hot]] = {
    SESSION_PRINCIPAL.name: _SESSION,
    API_KEY_PRINCIPAL.name: _KEY,
    with_row(SESSION_PRINCIPAL, _BASES).name: _Hot(_SESSION.tables, _SESSION.noted, keyed=True),
    with_row(API_KEY_PRINCIPAL, _BASES).name: _Hot(_KEY.tables, _KEY.noted, keyed=True),
}
_WHOLE: Final = frozenset(table.name for hot in _QUESTIONS.values() for table in hot.tables)


class Entries(Protocol):
    """Where answers and marks are kept: by name, each on one server or nowhere."""

    def get_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """The entries present, by name."""
        ...

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keep or replace the entries for at most `ttl_seconds`; a failing cache loses them."""
        ...


class HotReads(Storage):
    """A storage that answers some questions from the cache, never older than the last acknowledged write. All else passes through."""

    def __init__(
        self,
        inner: Storage,
        entries: Callable[[], Entries],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        self.backend = inner.backend
        self._entries = entries
        self._clock = clock
        self._pause = pause

    @property
    def own_schema(self) -> OwnSchema | None:  # type: ignore[override]
        """As of the storage behind."""
        return self.inner.own_schema

    @property
    def commit_seconds(self) -> float:  # type: ignore[override]
        """As of the storage behind."""
        return self.inner.commit_seconds

    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        hot = _QUESTIONS.get(question.name)
        if hot is None:
            return self.inner.ask(question, parameters)
        name, wanted, entries = f"answer/{digest([question.name, dict(parameters)])}", hot.marks(parameters), self._entries()
        found = entries.get_many([name, *wanted])
        marks = {mark: found[mark].hex() for mark in wanted if mark in found}
        kept = _kept(found.get(name), marks, self._clock()) if len(marks) == len(wanted) else None
        if kept is not None:
            return [_revived(question.columns, row) for row in kept]
        return self._asked(question, parameters, hot, name, marks)

    def _asked(self, question: Question, parameters: Mapping[str, Any], hot: _Hot, name: str, marks: dict[str, str]) -> list[Row]:
        """The database's answer, kept under the marks that were there before it was asked."""
        missing = {mark: secrets.token_bytes(8) for mark in hot.marks(parameters) if mark not in marks}
        if missing:
            self._entries().set_many(missing, MARK.ttl_seconds)
            marks = marks | {mark: word.hex() for mark, word in missing.items()}
        at = self._clock()
        rows = self.inner.ask(question, parameters)
        if len(rows) == 1 and _lasting(rows[0], at):
            # Whoever asks the database notes the use; those who are answered from here need not.
            noted = dict(rows[0]) | {hot.noted: max(rows[0][hot.noted] or at, at)}
            self._entries().set_many({name: canonical({"at": at, "marks": marks, "rows": [noted]})}, HOT.ttl_seconds)
        return rows

    def commit(self, writes: Sequence[Write]) -> list[Row | None]:
        try:
            rows = self.inner.commit(writes)
        except OutcomeUnknown:
            self._mark(_changed(writes))
            raise
        changed = _changed(writes)
        if changed and not self._mark(changed):
            self._pause(HOT.ttl_seconds + SKEW_SECONDS)
        return rows

    def _mark(self, names: Sequence[str]) -> bool:
        """Put new marks; whether each was there afterwards. One that another writer replaced meanwhile is put again."""
        left = list(names)
        for _ in range(_TRIES if left else 0):
            marks, entries = {name: secrets.token_bytes(8) for name in left}, self._entries()
            entries.set_many(marks, MARK.ttl_seconds)
            found = entries.get_many(left)
            left = [name for name in left if found.get(name) != marks[name]]
            if not left:
                break
        return not left

    # --- what passes through ---

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

    def append(self, table: Table, rows: Sequence[Row]) -> None:
        self.inner.append(table, rows)

    def now(self) -> datetime:
        return self.inner.now()

    def ping(self) -> float:
        return self.inner.ping()

    def shred(self) -> tuple[str, ...]:
        return self.inner.shred()

    def close(self) -> None:
        self.inner.close()


def _changed(writes: Sequence[Write]) -> list[str]:
    """The marks that these writes change. A new row was in no answer: none is kept that lacks one."""
    names: dict[str, None] = {}
    for write in writes:
        if isinstance(write, Insert | Require) or (
            isinstance(write, Update) and write.changes.keys() <= _QUIET.get(write.table.name, set())
        ):
            continue
        if write.table.name in _WHOLE or (write.table.name == _BASES.name and isinstance(write, DeleteWhere)):
            names[f"mark/{write.table.name}"] = None
        elif write.table.name == _BASES.name and not isinstance(write, DeleteWhere):
            names[f"mark/{_BASES.name}/{write.key}"] = None
    return list(names)


def _kept(entry: bytes | None, marks: Mapping[str, str], now: datetime) -> list[dict[str, Any]] | None:
    """The rows of an entry that stands under these marks and is young enough."""
    if entry is None:
        return None
    try:
        value = loads(entry)
    except MalformedInput:
        return None
    age = (now - datetime.fromisoformat(value["at"])).total_seconds()
    if value["marks"] != marks or not -SKEW_SECONDS <= age <= HOT.ttl_seconds:
        return None
    rows: list[dict[str, Any]] = value["rows"]
    return rows


def _lasting(row: Row, now: datetime) -> bool:
    """Whether it may be kept: what was asked for is there, and nothing of it ends soon."""
    if f"row_{_BASES.key}" in row and row[f"row_{_BASES.key}"] is None:
        return False
    ends = [row[name] for name in ("idle_expires_at", "absolute_expires_at", "expires_at") if row.get(name) is not None]
    return all(end > now + _EXPIRING for end in ends)


def _revived(columns: Sequence[Column], row: Mapping[str, Any]) -> Row:
    """The row with its times as times; the other types of these questions are JSON's own."""
    times = {column.name for column in columns if column.type is ColumnType.TIMESTAMP}
    return {name: datetime.fromisoformat(value) if name in times and value is not None else value for name, value in row.items()}
