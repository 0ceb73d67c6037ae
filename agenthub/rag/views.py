"""A segment as one snapshot sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agenthub.rag.choosing import Chosen
from agenthub.rag.opened import OpenSegment


@dataclass(frozen=True, slots=True)
class SegmentView:
    """An opened segment with the rows that are visible (None: all). Its row `r` is place `start + r` of the snapshot."""

    key: str
    segment: OpenSegment
    start: int
    visible: NDArray[np.bool_] | None
    visible_count: int
    chosen: Chosen | None

    @classmethod
    def of(cls, key: str, segment: OpenSegment, start: int, visible: NDArray[np.bool_] | None) -> SegmentView:
        """The view with its rows counted."""
        chosen = None if visible is None else Chosen.of(visible)
        return cls(key, segment, start, visible, segment.count if chosen is None else chosen.count, chosen)

    def visible_rows(self, rows: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Those of the rows that are visible."""
        return rows if self.visible is None else rows[self.visible[rows]]
