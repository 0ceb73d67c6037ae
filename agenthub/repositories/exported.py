"""Which tables flow to the warehouse: those whose rows are only ever added (ADR 25)."""

from __future__ import annotations

from typing import Final

from agenthub.repositories.activity import ACTIVITY_EVENTS
from agenthub.repositories.operations import AUDIT_EVENTS

EXPORTED_TABLES: Final = (AUDIT_EVENTS, ACTIVITY_EVENTS)
"""In the order in which rows of old are brought over."""
