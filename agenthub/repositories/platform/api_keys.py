"""API keys: credentials for programs, never more powerful than their creator is at the moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import NotFound
from agenthub.core.ids import new_id
from agenthub.core.types import TenantId, UserId
from agenthub.repositories.base import Page, Repository, all_of, equal_if
from agenthub.repositories.operations import row_of
from agenthub.repositories.platform.tokens import SHOWN_LENGTH, new_token, token_sha256
from agenthub.storage.contract import DeleteWhere, Insert, Require, Table, Update, Write, eq

ApiKeyStatus = Literal["active", "revoked"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. Only the SHA-256 of the key is kept; `prefix` is its beginning, to tell keys apart."""

    id: str
    tenant_id: TenantId
    name: str
    prefix: str
    secret_hash: str
    scopes: tuple[str, ...]
    status: ApiKeyStatus
    created_by: UserId
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


API_KEYS: Final = Table.of("api_keys", ApiKey, unique=[("secret_hash",)], indexes=[("tenant_id", "id"), ("tenant_id", "created_by", "id")])


@dataclass(frozen=True, slots=True)
class IssuedApiKey:
    """A key just made, with the secret that is shown this once."""

    key: ApiKey
    secret: str


def new_api_key(
    tenant_id: TenantId, created_by: UserId, name: str, scopes: Sequence[str], now: datetime, expires_at: datetime | None
) -> IssuedApiKey:
    """A key of that user, not yet stored."""
    secret = new_token("api_key")
    scopes = tuple(sorted(set(scopes)))
    key = ApiKey(
        new_id(), tenant_id, name, secret[:SHOWN_LENGTH], token_sha256(secret), scopes, "active", created_by, now, expires_at, None
    )
    return IssuedApiKey(key, secret)


def api_keys_removed(tenant_id: TenantId, user_id: UserId) -> Write:
    """The write that removes every key that a user created."""
    return DeleteWhere(API_KEYS, tenant_id, eq(created_by=user_id))


class ApiKeyRepository(Repository[ApiKey]):
    """The API keys. `created_by` limits each method to one creator's keys; None: all of the organization."""

    table = API_KEYS
    entity = ApiKey
    resource_kind = "api_key"

    def issue(self, issued: IssuedApiKey, creator: Require, *, kept: Any) -> IssuedApiKey:
        """Store a new key, if `creator` holds. `kept` is what repeats of the request will be answered with: without the secret.

        Raises: NotFound or VersionConflict when `creator` doesn't hold.
        """
        key = issued.key
        self._commit(key.tenant_id, [creator, Insert(API_KEYS, row_of(key))], kept, "create", key.id)
        return issued

    def page_of(self, tenant_id: TenantId, *, created_by: UserId | None, limit: int, cursor: str | None) -> Page[ApiKey]:
        """The keys, newest first, revoked ones too.

        Raises: MalformedInput, field `cursor`.
        """
        return self.page(tenant_id, where=all_of(equal_if("created_by", created_by)), limit=limit, cursor=cursor)

    def get_of(self, tenant_id: TenantId, key: str, *, created_by: UserId | None) -> ApiKey:
        """The key of that id.

        Raises: NotFound when it is missing, another tenant's or another creator's.
        """
        found = self.get(tenant_id, key)
        if created_by is not None and found.created_by != created_by:
            raise NotFound("no api key with this id")
        return found

    def rename(self, tenant_id: TenantId, key: str, name: str, *, created_by: UserId | None) -> ApiKey:
        """Give the key another name.

        Raises: NotFound as `get_of` does.
        """
        self.get_of(tenant_id, key, created_by=created_by)
        return self.update(tenant_id, key, {"name": name})

    def revoke(self, tenant_id: TenantId, key: str, *, created_by: UserId | None) -> None:
        """End the key for good; revoking it again changes nothing. The row stays, to tell of it.

        Raises: NotFound as `get_of` does.
        """
        self.get_of(tenant_id, key, created_by=created_by)
        self._commit(tenant_id, [Update(API_KEYS, tenant_id, key, {"status": "revoked"})], None, "revoke", key)
