"""What a process is told of the warehouse. No driver is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from agenthub.storage.configuration import BigQuerySettings


@dataclass(frozen=True, slots=True)
class WarehouseSettings:
    """A dataset that events flow to, and how.

    `enabled`: this process exports. Every `interval_seconds` what is new is sent, at most `batch_rows` rows (1 to 1000) and
    `batch_bytes` at once; a single row may be larger.
    """

    bigquery: BigQuerySettings
    enabled: bool = True
    interval_seconds: float = 10.0
    batch_rows: int = 500
    batch_bytes: int = 1024 * 1024

    @property
    def lease_seconds(self) -> float:
        """How long an exporter that died keeps others from going on: longer than one batch may take."""
        return self.bigquery.timeout_seconds + 15.0
