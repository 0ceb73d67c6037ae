"""What a process was asked for lately, in bounded memory: the raw material of `heat`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agenthub.core.frequent import Frequent
from agenthub.repositories.knowledge.heat import MAX_QUESTIONS
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase

MAX_BASES: Final = 32
"""Knowledge bases noted between two records; more are left out, which matters little: only the busiest are warmed."""
MAX_TEXT_LENGTH: Final = 500
"""Longer questions are seldom asked twice."""


@dataclass
class Noted:
    """One knowledge base, as it was when last searched."""

    base: KnowledgeBase
    count: int = 0
    questions: Frequent[str] = field(default_factory=lambda: Frequent(MAX_QUESTIONS))


class SearchNotes:
    """Notes of one process. Safe to share between threads; a note takes a few microseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, Noted] = {}

    def note(self, base: KnowledgeBase, texts: Sequence[str]) -> None:
        """It was searched, with these questions if their vectors were needed."""
        with self._lock:
            noted = self._noted.get(base.id)
            if noted is None:
                if len(self._noted) >= MAX_BASES:
                    return
                noted = self._noted[base.id] = Noted(base)
            noted.base = base
            noted.count += 1
            for text in texts:
                if len(text) <= MAX_TEXT_LENGTH:
                    noted.questions.note(text)

    def take(self) -> list[Noted]:
        """What was noted since the last time, the most searched first."""
        with self._lock:
            taken, self._noted = self._noted, {}
        return sorted(taken.values(), key=lambda noted: -noted.count)
