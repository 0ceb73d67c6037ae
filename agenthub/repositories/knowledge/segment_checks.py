"""What is known about the soundness of segments: when each was looked at, and which are in quarantine.

A segment in quarantine stays where it is, in the manifest and on the volume, and is never collected: what is left of it may be
all there is. Searches over it are refused as damaged until it is repaired or an older generation is restored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agenthub.core.errors import NotFound
from agenthub.core.types import KnowledgeBaseId, TenantId
from agenthub.rag.contract import Damage
from agenthub.repositories.base import Repository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.retention import every_row
from agenthub.storage.contract import And, Compare, DeleteWhere, Insert, Table, Update

Condition = Literal["whole", "damaged", "quarantined"]
"""`damaged`: only files that can be made again. `quarantined`: truth is damaged."""
_MOST_DAMAGES: Final = 20
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class SegmentCheck:
    """The newest look at a segment. `id` is `<knowledge base>.<segment>`; `damages` say file by file what was wrong."""

    id: str
    tenant_id: TenantId
    knowledge_base_id: KnowledgeBaseId
    segment_id: str
    condition: Condition
    damages: Mapping[str, Any]
    generation: int
    checked_at: datetime


SEGMENT_CHECKS: Final = Table.of(
    "kb_segment_checks",
    SegmentCheck,
    indexes=[("tenant_id", "knowledge_base_id", "id"), ("knowledge_base_id", "condition")],
)


class SegmentCheckRepository(Repository[SegmentCheck]):
    """The looks at segments."""

    table = SEGMENT_CHECKS
    entity = SegmentCheck

    def of(self, base: KnowledgeBase) -> dict[str, SegmentCheck]:
        """What is known of a knowledge base's segments, by segment id."""
        rows = every_row(self._storage, SEGMENT_CHECKS, base, Compare("knowledge_base_id", "eq", base.id))
        return {str(row["segment_id"]): self.from_row(row) for row in rows}

    def quarantined(self, base: KnowledgeBase) -> set[str]:
        """The ids of its segments in quarantine: their files may not be collected."""
        where = And((Compare("knowledge_base_id", "eq", base.id), Compare("condition", "eq", "quarantined")))
        return {str(row["segment_id"]) for row in every_row(self._storage, SEGMENT_CHECKS, base, where)}

    def note(self, base: KnowledgeBase, segment_id: str, damages: Sequence[Damage]) -> SegmentCheck:
        """Write down what a look at a segment found."""
        check = SegmentCheck(
            f"{base.id}.{segment_id}",
            base.tenant_id,
            base.id,
            segment_id,
            condition_of(damages),
            {"files": [{"file": one.file, "kind": one.kind, "message": one.message} for one in damages[:_MOST_DAMAGES]]},
            base.generation,
            self._storage.now(),
        )
        row = {name: getattr(check, name) for name in SegmentCheck.__dataclass_fields__}
        changes = {name: row[name] for name in ("condition", "damages", "generation", "checked_at")}
        try:
            self._storage.commit([Update(SEGMENT_CHECKS, base.tenant_id, check.id, changes)])
        except NotFound:
            self._storage.commit([Insert(SEGMENT_CHECKS, row, ignore_existing=True)])
        return check

    def forget_unlisted(self, base: KnowledgeBase, segment_ids: Sequence[str]) -> None:
        """Forget segments that were merged away; those in quarantine are remembered."""
        for start in range(0, len(segment_ids), _BATCH):
            some = Compare("segment_id", "in", tuple(segment_ids[start : start + _BATCH]))
            unneeded = And((Compare("knowledge_base_id", "eq", base.id), Compare("condition", "ne", "quarantined"), some))
            self._storage.commit([DeleteWhere(SEGMENT_CHECKS, base.tenant_id, unneeded)])


def condition_of(damages: Sequence[Damage]) -> Condition:
    """What a segment with this damage is."""
    if any(one.kind == "truth" for one in damages):
        return "quarantined"
    return "damaged" if damages else "whole"
