"""A choice of rows: what a filter and the deletes leave of a segment, in the forms that indexes ask for."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class Chosen:
    """Rows of one segment; made once for a filter and kept, so each form is computed when it is first asked for."""

    def __init__(self, rows: NDArray[np.bool_], count: int) -> None:
        self.rows = rows
        self.count = count

    @classmethod
    def of(cls, rows: NDArray[np.bool_]) -> Chosen:
        """These rows, counted."""
        return cls(rows, int(np.count_nonzero(rows)))

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The chosen rows' numbers, ascending."""
        return np.flatnonzero(self.rows)

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """One bit a row, the first row in the lowest."""
        return np.packbits(self.rows, bitorder="little")

    @property
    def size_bytes(self) -> int:
        """Memory used at most, with every form made."""
        return len(self.rows) + len(self.rows) // 8 + 8 * self.count
