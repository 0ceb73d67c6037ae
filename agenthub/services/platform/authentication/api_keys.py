"""HTTP routes of API keys."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint

from agenthub.core.types import UserId
from agenthub.repositories.base import Page
from agenthub.repositories.operations import row_of
from agenthub.repositories.platform.api_keys import ApiKey, ApiKeyRepository, new_api_key
from agenthub.repositories.platform.users import active_user
from agenthub.services.platform.authentication.logic import check_expiry, check_scopes
from agenthub.services.platform.authentication.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyOut, ApiKeyUpdate
from agenthub.web.access import principal, repository, resources
from agenthub.web.declare import accepts, requires, returns, takes
from agenthub.web.schema import ListOf, PageQuery

bp = Blueprint("api_keys", __name__)

_SHOWN: Final = "keep the secret now: it is not shown again"
_NOT_SHOWN: Final = "the secret was shown once, with the first answer to this request"


@bp.post("")
@requires("api-keys:write")
@accepts(ApiKeyCreate)
@returns(ApiKeyCreated, status=201)
def create_api_key(body: ApiKeyCreate) -> dict[str, Any]:
    """Create an API key. The secret is in this answer and nowhere else."""
    caller = principal()
    now = resources().clock.now()
    check_scopes(body.scopes, caller)
    check_expiry(body.expires_at, now)
    issued = new_api_key(caller.tenant_id, caller.user_id, body.name, body.scopes, now, body.expires_at)
    row = row_of(issued.key)
    kept = {**row, "secret": None, "note": _NOT_SHOWN}
    repository(ApiKeyRepository).issue(issued, active_user(caller.tenant_id, caller.user_id), kept=kept)
    return {**row, "secret": issued.secret, "note": _SHOWN}


@bp.get("")
@requires("api-keys:read")
@takes(PageQuery)
@returns(ListOf[ApiKeyOut])
def list_api_keys(query: PageQuery) -> Page[ApiKey]:
    """One's own API keys, or the organization's for those who manage them, newest first."""
    keys = repository(ApiKeyRepository)
    return keys.page_of(principal().tenant_id, created_by=_limited_to(), limit=query.limit, cursor=query.cursor)


@bp.get("/<api_key_id>")
@requires("api-keys:read")
@returns(ApiKeyOut)
def get_api_key(api_key_id: str) -> ApiKey:
    """One API key."""
    return repository(ApiKeyRepository).get_of(principal().tenant_id, api_key_id, created_by=_limited_to())


@bp.patch("/<api_key_id>")
@requires("api-keys:write")
@accepts(ApiKeyUpdate)
@returns(ApiKeyOut)
def rename_api_key(api_key_id: str, body: ApiKeyUpdate) -> ApiKey:
    """Give an API key another name."""
    return repository(ApiKeyRepository).rename(principal().tenant_id, api_key_id, body.name, created_by=_limited_to())


@bp.delete("/<api_key_id>")
@requires("api-keys:write")
@returns(None)
def revoke_api_key(api_key_id: str) -> None:
    """End an API key for good; it stays in the list as `revoked`."""
    repository(ApiKeyRepository).revoke(principal().tenant_id, api_key_id, created_by=_limited_to())


def _limited_to() -> UserId | None:
    """Whose keys the caller may touch: None for everybody's."""
    caller = principal()
    return None if "api-keys:manage" in caller.permissions else caller.user_id
