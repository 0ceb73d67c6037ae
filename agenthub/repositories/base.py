"""What every repository can do, and how entities become rows."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

from agenthub.core.errors import AlreadyExists, NotFound
from agenthub.core.types import TenantId, TenantScope
from agenthub.repositories.cursors import decode_cursor, encode_cursor
from agenthub.repositories.operations import APPLIED_OPERATIONS, Operation, row_of
from agenthub.storage.contract import (
    ALL,
    And,
    Compare,
    Delete,
    Filter,
    Insert,
    Order,
    Query,
    Row,
    Scalar,
    Storage,
    Table,
    Update,
    Write,
    eq,
)

E = TypeVar("E")

NEWEST_FIRST = (Order("id", descending=True),)
"""The order of most lists: ids sort by creation time."""


@dataclass(frozen=True, slots=True)
class Page(Generic[E]):
    """One page of a list; `next_cursor` is None on the last one."""

    items: tuple[E, ...]
    next_cursor: str | None


class OperationRepeated(Exception):
    """The request's Idempotency-Key was applied by another request while this one ran; nothing was written by this one."""


def audit_action(resource_kind: str, verb: str) -> str:
    """The name of an action in the audit log: `user.create`."""
    return f"{resource_kind}.{verb}"


class Repository(Generic[E]):
    """A typed collection of one entity.

    Subclasses set `table`, `entity`, `resource_kind` (the singular word of audit rows; empty: not audited) and add named queries.
    Every method names the tenant. Mutations carry the request's `Operation`: see repositories/operations.py.
    """

    table: ClassVar[Table]
    entity: ClassVar[type]
    resource_kind: ClassVar[str] = ""

    def __init__(self, storage: Storage, operation: Operation | None = None) -> None:
        self._storage = storage
        self._operation = operation or Operation()

    # --- reads ---

    def now(self) -> datetime:
        """The database's clock: the one that stamps rows, whichever replica writes them."""
        return self._storage.now()

    def get(self, tenant_id: TenantScope, key: str) -> E:
        """The entity of that id.

        Raises: NotFound when it is missing or another tenant's.
        """
        entity = self.find(tenant_id, key)
        if entity is None:
            raise NotFound(f"no {self._word()} with this id")
        return entity

    def find(self, tenant_id: TenantScope, key: str) -> E | None:
        """The entity of that id, or None."""
        row = self._storage.get(self.table, tenant_id, key)
        return self.from_row(row) if row else None

    def foreseen(self, row: Row) -> E | None:
        """The entity of a row that was read elsewhere in this request, under the rules of `find`."""
        return self.from_row(row)

    def get_many(self, tenant_id: TenantScope, keys: Sequence[str]) -> dict[str, E]:
        """Those of the entities that exist, by id; at most 1000 ids."""
        rows = self._storage.get_many(self.table, tenant_id, keys)
        return {key: self.from_row(row) for key, row in rows.items()}

    def count(self, tenant_id: TenantScope, where: Filter = ALL) -> int:
        """How many match."""
        return self._storage.count(self.table, tenant_id, where)

    def page(
        self,
        tenant_id: TenantScope,
        *,
        where: Filter = ALL,
        order: tuple[Order, ...] = NEWEST_FIRST,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[E]:
        """One page of the matching entities, newest first unless told otherwise.

        Raises: MalformedInput, field `cursor`, when the cursor is not one of this list.
        """
        after = decode_cursor(self.table, order, cursor) if cursor else None
        rows = self._storage.find(self.table, tenant_id, Query(where, order, limit + 1, after))
        more = len(rows) > limit
        following = encode_cursor(self.table, order, rows[limit - 1]) if more else None
        return Page(tuple(self.from_row(row) for row in rows[:limit]), following)

    def _find_one(self, tenant_id: TenantScope, **columns: Scalar) -> E | None:
        rows = self._storage.find(self.table, tenant_id, Query(eq(**columns), limit=1))
        return self.from_row(rows[0]) if rows else None

    # --- writes ---

    def add(self, entity: E, *extra: Write, result: Any = None, verb: str = "create") -> E:
        """Add the entity; `extra` writes happen with it or not at all.

        Raises: AlreadyExists when its id or unique values are taken.
        """
        row = row_of(entity)
        self._commit(self._tenant_of(row), [Insert(self.table, row), *extra], result or entity, verb, row[self.table.key])
        return entity

    def update(
        self,
        tenant_id: TenantId,
        key: str,
        changes: Mapping[str, Any],
        *extra: Write,
        expected_version: int | None = None,
        where: Filter = ALL,
        verb: str = "update",
    ) -> E:
        """Change some fields and return the entity as it is now.

        Raises: NotFound; VersionConflict when `expected_version` or `where` no longer holds; AlreadyExists for a taken unique value.
        The answer of a repeat is rendered from the row before plus the changes, so a request with an Idempotency-Key is
        guarded by the version it read.
        """
        if self._operation.id is not None or expected_version is not None:
            return self._update_from(self.get(tenant_id, key), tenant_id, key, changes, extra, expected_version, where, verb)
        write = Update(self.table, tenant_id, key, changes, None, where)
        rows = self._commit(tenant_id, [write, *extra], None, verb, key)
        return self.from_row(_present(rows[0]))

    def _update_from(
        self,
        before: E,
        tenant_id: TenantId,
        key: str,
        changes: Mapping[str, Any],
        extra: Sequence[Write],
        expected_version: int | None,
        where: Filter,
        verb: str,
    ) -> E:
        row = dict(row_of(before)) | dict(changes)
        version = expected_version
        if self.table.versioned:
            version = expected_version if expected_version is not None else row["version"]
            row["version"] = (version or 0) + 1
        after = self.from_row(row)
        self._commit(tenant_id, [Update(self.table, tenant_id, key, changes, version, where), *extra], after, verb, key)
        return after

    def remove(self, tenant_id: TenantId, key: str, *extra: Write, expected_version: int | None = None, verb: str = "delete") -> None:
        """Remove the entity.

        Raises: NotFound; VersionConflict when `expected_version` no longer holds.
        """
        write = Delete(self.table, tenant_id, key, expected_version)
        self._commit(tenant_id, [write, *extra], None, verb, key)

    def _commit(self, tenant_id: TenantId, writes: Sequence[Write], result: Any, verb: str, resource_id: str | None) -> list[Row | None]:
        """Commit the writes with the operation's records: the one door through which repositories change anything.

        Raises: OperationRepeated when the request's Idempotency-Key was applied by a racing twin.
        """
        now = self._storage.now() if self._operation.id or self.resource_kind else None
        records: list[Write] = []
        if now is not None:
            records += self._operation.records(tenant_id, result, now)
            if self.resource_kind:
                action = audit_action(self.resource_kind, verb)
                records.append(self._operation.audit(tenant_id, action, self.resource_kind, resource_id, now))
        try:
            rows = self._storage.commit([*writes, *records])
        except AlreadyExists as error:
            if error.table == APPLIED_OPERATIONS.name:
                raise OperationRepeated from error
            raise
        self._operation.sealed = True
        return rows[: len(writes)]

    # --- rows ---

    @classmethod
    def from_row(cls, row: Row) -> E:
        """The entity of a row."""
        entity: E = cls.entity(**{name: _revive(hint, row[name]) for name, hint in _hints(cls.entity).items()})
        return entity

    def _tenant_of(self, row: Row) -> TenantId:
        return TenantId(row[self.table.tenant]) if self.table.tenant else TenantId("")

    def _word(self) -> str:
        return (self.resource_kind or self.table.name).replace("_", " ")


def _present(row: Row | None) -> Row:
    if row is None:
        raise AssertionError("an update returns its row")
    return row


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(entity: type) -> dict[str, Any]:
    if entity not in _HINTS:
        hints = get_type_hints(entity)
        _HINTS[entity] = {field.name: hints[field.name] for field in fields(entity)}
    return _HINTS[entity]


def _revive(hint: Any, value: Any) -> Any:
    """JSON has no tuples: a list becomes one where the entity says so."""
    if isinstance(value, list):
        options = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
        if any((get_origin(option) or option) is tuple for option in options):
            return tuple(value)
    return value


def all_of(*parts: Filter | None) -> Filter:
    """The conjunction of the filters that are given."""
    return And(tuple(part for part in parts if part is not None))


def equal_if(column: str, value: Scalar) -> Filter | None:
    """`column = value`, or no filter for None: what optional query parameters mean."""
    return None if value is None else Compare(column, "eq", value)


def any_of(column: str, values: Sequence[str]) -> Filter:
    """`column` is one of the values."""
    return Compare(column, "in", tuple(values))
