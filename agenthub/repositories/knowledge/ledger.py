"""The small rows beside a knowledge base: applied operations, writer intents and tombstones (RELIABILITY.md E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.types import KnowledgeBaseId, TenantId
from agenthub.storage.contract import Table


@dataclass(frozen=True, slots=True)
class KnowledgeOperation:
    """One applied write of a knowledge base: what settles a lost acknowledgement. `id` is `<knowledge base>.<operation>`."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    operation_id: str
    payload_sha256: str
    generation: int
    result: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KnowledgeIntent:
    """A writer at work: its new files may not be collected before `expires_at`, and after it the writer may not commit.

    `fence` is drawn anew whenever the intent is, so a zombie's old intent never passes for the new one.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    fence: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TombstoneRow:
    """A document or chunk deleted by the commit of `generation`; hides copies in segments that cover less."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    kind: Literal["document", "chunk"]
    target_id: str
    generation: int


OPERATIONS: Final = Table.of("kb_ops", KnowledgeOperation, indexes=[("knowledge_base_id", "created_at")])
INTENTS: Final = Table.of("kb_intents", KnowledgeIntent, indexes=[("knowledge_base_id", "expires_at")])
TOMBSTONES: Final = Table.of("kb_tombstones", TombstoneRow, indexes=[("tenant_id", "knowledge_base_id", "generation", "id")])
