"""What an exporter needs of a warehouse: rows are added in batches, whatever is repeated, and questions are answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agenthub.storage.contract import Question, Row, Table


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one table; at least one."""

    table: Table
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that reach the warehouse together. `name` is made of what is in it: the same batch has the same name in every process."""

    name: str
    parts: tuple[Part, ...]

    @property
    def row_count(self) -> int:
        """How many rows it has."""
        return sum(len(part.rows) for part in self.parts)


class Warehouse(ABC):
    """A place that events are added to and counted in. Safe to use from many threads and processes; every call ends in time."""

    backend: str
    """Shown in answers, logs and health."""

    @abstractmethod
    def make(self, tables: Sequence[Table]) -> None:
        """Make what is missing for rows of these tables; safe to repeat. Raises: StorageUnavailable, saying what to do."""

    @abstractmethod
    def put(self, batch: Batch) -> None:
        """Add the rows whose keys are not there yet, all or none. When it returns, each of them is there exactly once.

        After an error they may be there, or yet come: the same rows can be put again, by anybody, in any other batch.
        Raises: StorageUnavailable; InvalidInput when these rows will never be taken as they are.
        """

    @abstractmethod
    def ask(self, question: Question, parameters: Mapping[str, Any]) -> list[Row]:
        """Answer a named question from what was exported. Raises: StorageUnavailable."""

    @abstractmethod
    def close(self) -> None:
        """Give connections back; the object is of no use afterwards."""
