"""Embedding ahead: while one document is embedded, the next is read and the one before is committed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import numpy as np

from agenthub.core.threads import give_way
from agenthub.jobs.preparing import Draft
from agenthub.rag.embedding.contract import Embedder, Vectors
from agenthub.repositories.knowledge.job_commits import Made
from agenthub.repositories.knowledge.jobs import JobItem

BATCH_TEXTS: Final = 128
"""Texts in one call: enough to keep all threads busy to its end, few enough to stop within a second or two."""

LEAVING_SECONDS: Final = 5.0
"""How long a call under way is waited for at the end: a process that has to stop has eight seconds, and a provider may hang."""


@dataclass(slots=True)
class _Work:
    """A document whose chunks are being embedded, in order."""

    item: JobItem
    draft: Draft
    vectors: list[Vectors] = field(default_factory=list)
    embedded: int = 0

    @property
    def missing(self) -> Sequence[str]:
        return [chunk.searched_text for chunk in self.draft.chunks[self.embedded :]]

    def made(self) -> Made:
        return Made(self.item, self.draft.document, self.draft.chunks, np.concatenate(self.vectors))


class EmbedAhead:
    """Embeds documents in the order they were put, in a thread that gives way to searches. Texts of several share a call."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._waiting: deque[_Work] = deque()
        self._made: deque[Made] = deque()
        self._chunks = 0
        self._error: Exception | None = None
        self._over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="job-embedding", daemon=True)

    @property
    def backlog(self) -> int:
        """How many chunks were put and not taken."""
        with self._changed:
            return self._chunks

    def put(self, item: JobItem, draft: Draft) -> None:
        """Let a document be embedded."""
        with self._changed:
            self._waiting.append(_Work(item, draft))
            self._chunks += len(draft.chunks)
            self._changed.notify_all()

    def take(self, wait_seconds: float = 0.0) -> Made | None:
        """The next document with its vectors; None when none is ready in that time.

        Raises: what the embedder raised.
        """
        with self._changed:
            if not self._made and not self._error and self._waiting:
                self._changed.wait(wait_seconds)
            if self._error:
                raise self._error
            if not self._made:
                return None
            made = self._made.popleft()
            self._chunks -= len(made.chunks)
            return made

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop after the call under way; what was not taken is dropped. A call that goes on for long is left behind."""
        with self._changed:
            self._over = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(LEAVING_SECONDS)

    def _run(self) -> None:
        give_way()
        while batch := self._next():
            try:
                self._embed(batch)
            except Exception as error:  # noqa: BLE001 - raised again by `take`, in the thread that runs the slice
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return

    def _next(self) -> list[tuple[_Work, Sequence[str]]]:
        """The texts of the next call, by document; empty when it is over."""
        with self._changed:
            while not self._waiting and not self._over:
                self._changed.wait()
            batch: list[tuple[_Work, Sequence[str]]] = []
            room = BATCH_TEXTS
            for work in self._waiting:
                texts = work.missing[:room]
                batch.append((work, texts))
                room -= len(texts)
                if room <= 0:
                    break
            return batch

    def _embed(self, batch: Sequence[tuple[_Work, Sequence[str]]]) -> None:
        vectors = self._embedder.embed([text for _, texts in batch for text in texts], background=True)
        start = 0
        with self._changed:
            for work, texts in batch:
                work.vectors.append(vectors[start : start + len(texts)])
                work.embedded += len(texts)
                start += len(texts)
                if work.embedded == len(work.draft.chunks) and self._waiting:
                    self._waiting.popleft()
                    self._made.append(work.made())
            self._changed.notify_all()
