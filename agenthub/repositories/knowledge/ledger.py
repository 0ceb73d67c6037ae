"""The small rows beside a knowledge base: applied operations, writer intents, tombstones and pins (RELIABILITY.md E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.types import KnowledgeBaseId, TenantId
from agenthub.rag.references import Pointer
from agenthub.storage.contract import Table

ChangeKind = Literal["create", "import", "add", "replace", "delete", "restore", "merge", "erase", "reembed"]
"""What a write of a knowledge base did. A merge changes no content, and a re-embedding only the vectors."""


@dataclass(frozen=True, slots=True)
class KnowledgeOperation:
    """One applied write of a knowledge base: what settles a lost acknowledgement, and an entry of the list of generations.

    `id` is `<knowledge base>.<operation>`. Writes that were committed together share their generation. The pointer, the counts
    and `size_bytes` (of documents) are those after the commit; the deltas are this write's own.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    operation_id: str
    payload_sha256: str
    generation: int
    kind: ChangeKind
    actor_kind: str
    actor_id: str | None
    epoch: int
    manifest_name: str
    manifest_sha256: str
    manifest_length_bytes: int
    document_count: int
    chunk_count: int
    size_bytes: int
    documents_delta: int
    chunks_delta: int
    details: Mapping[str, Any]
    created_at: datetime

    @property
    def pointer(self) -> Pointer:
        """What the knowledge base's row said after this write."""
        return Pointer(self.generation, self.epoch, self.manifest_name, self.manifest_sha256, self.manifest_length_bytes)


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


@dataclass(frozen=True, slots=True)
class Pin:
    """A generation that is kept whatever the retention says: a named snapshot, or (without a name) what is being read for long.

    `name_key` is the casefolded name, unique in the knowledge base; `expires_at` is None for named snapshots.
    """

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    name: str | None
    name_key: str | None
    generation: int
    epoch: int
    manifest_name: str
    manifest_sha256: str
    manifest_length_bytes: int
    document_count: int
    chunk_count: int
    size_bytes: int
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None

    @property
    def pointer(self) -> Pointer:
        """The pinned generation."""
        return Pointer(self.generation, self.epoch, self.manifest_name, self.manifest_sha256, self.manifest_length_bytes)


OPERATIONS: Final = Table.of(
    "kb_ops",
    KnowledgeOperation,
    indexes=[("knowledge_base_id", "created_at"), ("tenant_id", "knowledge_base_id", "generation", "id")],
)
INTENTS: Final = Table.of("kb_intents", KnowledgeIntent, indexes=[("knowledge_base_id", "expires_at")])
TOMBSTONES: Final = Table.of("kb_tombstones", TombstoneRow, indexes=[("tenant_id", "knowledge_base_id", "generation", "id")])
PINS: Final = Table.of(
    "kb_pins",
    Pin,
    unique=[("knowledge_base_id", "name_key")],
    indexes=[("tenant_id", "knowledge_base_id", "id"), ("expires_at",)],
)
