"""What operators do to the cache."""

from __future__ import annotations

from typing import Any, Final

from agenthub.cache.policy import Kind
from agenthub.core.errors import CacheUnavailable, Conflict
from agenthub.core.types import TenantId
from agenthub.repositories.operations import Operation
from agenthub.resources import Resources

_RESOURCE: Final = "cache"


def flush(resources: Resources, tenant_id: TenantId, operation: Operation, kind: Kind, answer: Any) -> None:
    """Put all entries of a kind out of use; who did it is in the audit log of the caller's organization.

    Raises: CacheUnavailable when the server that has to be told does not answer: nothing was flushed then.
    """
    if not resources.cached.flush(kind):
        raise CacheUnavailable("the cache server does not answer: nothing was flushed")
    note(resources, tenant_id, operation, "flush", kind.name, answer)


def warm(resources: Resources, tenant_id: TenantId, operation: Operation, answer: Any) -> None:
    """Have this process warm itself, or all that share its cache.

    Raises: Conflict when nobody would; CacheUnavailable when the others can't be told.
    """
    if resources.settings.cache.shared:
        if not resources.cached.ask_to_warm():
            raise CacheUnavailable("the cache server does not answer: nobody was told")
    elif "knowledge" not in resources.needs or not resources.warming.ask():
        raise Conflict("this process searches nothing, or warming is switched off (AGENTHUB_WARMING)")
    note(resources, tenant_id, operation, "warm", None, answer)


def note(resources: Resources, tenant_id: TenantId, operation: Operation, verb: str, subject: str | None, answer: Any) -> None:
    """Write down who did it, with the answer that repeats of the request get."""
    now = resources.storage.now()
    audit = operation.audit(tenant_id, f"{_RESOURCE}.{verb}", _RESOURCE, subject, now)
    resources.storage.commit([audit, *operation.records(tenant_id, answer, now)])
    operation.sealed = True
