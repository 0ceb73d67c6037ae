"""Names for plain values that cross floors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NewType

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", str)
KnowledgeBaseId = NewType("KnowledgeBaseId", str)
DocumentId = NewType("DocumentId", str)
AgentId = NewType("AgentId", str)

JsonObject = Mapping[str, Any]


class EveryTenant:
    """The type of `EVERY_TENANT`: a read or write that is deliberately not limited to one tenant."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "EVERY_TENANT"


EVERY_TENANT: Final = EveryTenant()
"""Said where a caller has no tenant yet (login) or serves all (migration, health). An architecture test lists its users."""

TenantScope = TenantId | EveryTenant
