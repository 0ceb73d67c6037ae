"""Organizations: the tenants. The first one, the operator, may create others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import Conflict
from agenthub.core.types import EVERY_TENANT, TenantId
from agenthub.repositories.base import Page, Repository, audit_action
from agenthub.storage.contract import Table, Update, Write

OPERATOR: Final = "operator"

OrganizationStatus = Literal["active", "suspended"]


@dataclass(frozen=True, slots=True)
class Organization:
    """One tenant. `operator_mark` is `operator` on the first organization and None on all others; it is unique, so that racing
    first starts make one operator. `version` also moves when an active owner ceases to be one (see users.py).
    """

    id: TenantId
    name: str
    status: OrganizationStatus
    operator_mark: str | None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def is_operator(self) -> bool:
        """Whether this is the organization whose owners may create others."""
        return self.operator_mark == OPERATOR


ORGANIZATIONS: Final = Table.of("organizations", Organization, tenant="id", unique=[("operator_mark",)])

_STATUS_VERBS: Final[Mapping[str, str]] = {"active": "activate", "suspended": "suspend"}


class OrganizationRepository(Repository[Organization]):
    """The organizations."""

    table = ORGANIZATIONS
    entity = Organization
    resource_kind = "organization"

    def page_for(self, tenant_id: TenantId, *, all_organizations: bool, limit: int, cursor: str | None) -> Page[Organization]:
        """The caller's own organization, or all of them for the operator, newest first.

        Raises: MalformedInput, field `cursor`.
        """
        return self.page(EVERY_TENANT if all_organizations else tenant_id, limit=limit, cursor=cursor)

    def change(self, by: TenantId, key: TenantId, changes: Mapping[str, Any], *, expected_version: int | None = None) -> Organization:
        """Rename, suspend or activate the organization `key` on behalf of organization `by`; returns it as it is now.

        The request's record is kept under `by`, where the request came from; both audit logs tell of the change.
        Raises: NotFound; VersionConflict when it changed meanwhile or is not at `expected_version`; Conflict, field `status`,
        when the operator organization would be suspended.
        """
        before = self.get(key, key)
        status = changes.get("status", before.status)
        if before.is_operator and status != "active":
            raise Conflict("the operator organization can't be suspended", field="status")
        now = self._storage.now()
        version = before.version if expected_version is None else expected_version
        verb = _STATUS_VERBS[status] if status != before.status else "update"
        writes: list[Write] = [Update(ORGANIZATIONS, key, key, {**changes, "updated_at": now}, version)]
        if by != key:
            writes.append(self._operation.audit(key, audit_action(self.resource_kind, verb), self.resource_kind, key, now))
        after = replace(before, **changes, updated_at=now, version=version + 1)
        self._commit(by, writes, after, verb, key)
        return after

    def find_operator(self) -> Organization | None:
        """The operator organization, or None before the first owner was made."""
        return self._find_one(EVERY_TENANT, operator_mark=OPERATOR)
