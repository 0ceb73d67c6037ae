"""The nearest rows over many segments by one question of Milvus, checked against what this snapshot may show.

Which rows a filter chooses and which are deleted is known here, row by row, from the same columns as with every adapter; so no filter
is put into Milvus' words. Where most rows may be found, Milvus is asked for more than are wanted and what may not be shown is
dropped; where few may, their numbers are part of the question. An answer that is short though more rows exist is made up for by
comparing the rows themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import MissingFile
from agenthub.rag.milvus.rows import MilvusLines, newest, row_id, rows_of
from agenthub.rag.milvus.server import MAX_HITS, MilvusServer
from agenthub.rag.ranking import Live, Ranked, best
from agenthub.rag.vectors import Vectors

_LISTED_ROWS: Final = 20_000
"""Row numbers in one question."""
_COMPARED_ROWS: Final = 500
"""Vectors fetched at once where rows are compared here."""
_MARGIN: Final = 1.2
_GROWTH: Final = 4
Found = list[tuple[int, float]]


class Nearest:
    """One look for the nearest rows of one knowledge base."""

    def __init__(self, server: MilvusServer, live: Sequence[Live], queries: Vectors, count: int) -> None:
        self._server = server
        self._live = [one for one in live if one.count]
        self._queries = queries
        self._count = count
        lines = [lines_of(one) for one in self._live]
        self._kb_id = lines[0].kb_id if lines else ""
        self._collection = lines[0].elsewhere.collection if lines else ""
        self._since = newest([one.elsewhere for one in lines])
        self._by_segment = {one.view.segment.header.id: one for one in self._live}

    def ranked(self, listed_fraction: float) -> list[Ranked]:
        """For each query the best rows. Below this fraction of a segment's rows they are listed in the question."""
        found: list[Found] = [[] for _ in self._queries]
        few = [one for one in self._live if one.chosen is not None and one.count < listed_fraction * one.view.segment.count]
        many = [one for one in self._live if one not in few]
        if many and not self._open(many, found):
            few = self._live
            found = [[] for _ in self._queries]
        for listed in _questions(few):
            self._listed(listed, found)
        return [_best(ones, self._count) for ones in found]

    # -- where most rows may be found

    def _open(self, many: Sequence[Live], found: list[Found]) -> bool:
        """Ask for the best rows whatever they are, and keep those that may be shown; False when too few of them may."""
        allowed, total = sum(one.count for one in many), sum(one.view.segment.count for one in many)
        wanted = min(self._count, allowed)
        limit = wanted if allowed == total else math.ceil(wanted * _MARGIN * total / allowed) + 1
        expression = rows_of(self._kb_id, [one.view.segment.header.id for one in many])
        while True:
            limit = min(limit, total, MAX_HITS)
            answers = self._server.search(self._collection, expression, self._queries, limit, self._since)
            kept = [self._shown(hits) for hits in answers]
            if all(len(ones) >= wanted for ones in kept):
                _extend(found, kept)
                return True
            if limit == min(total, MAX_HITS) or any(len(hits) < limit for hits in answers):
                return False
            limit *= _GROWTH

    def _shown(self, hits: Sequence[tuple[str, float]]) -> Found:
        """Places and scores of the hits that may be shown."""
        shown: Found = []
        for key, score in hits:
            segment_id, _, row = key.partition(".")
            one = self._by_segment[segment_id]
            if one.chosen is None or one.chosen.rows[int(row)]:
                shown.append((one.view.start + int(row), score))
        return shown

    # -- where few may

    def _listed(self, rows: Mapping[str, NDArray[np.int64]], found: list[Found]) -> None:
        """Ask for the best of these rows, by segment."""
        clauses = [f'(segment == "{name}" and row in {numbers.tolist()})' for name, numbers in rows.items()]
        expression = f"{rows_of(self._kb_id, list(rows))} and ({' or '.join(clauses)})"
        limit = min(self._count, sum(map(len, rows.values())))
        answers = self._server.search(self._collection, expression, self._queries, limit, self._since)
        if any(len(hits) < limit for hits in answers):
            self._compared(rows, found)
            return
        _extend(found, [self._shown(hits) for hits in answers])

    def _compared(self, rows: Mapping[str, NDArray[np.int64]], found: list[Found]) -> None:
        """Compare the rows one by one. Raises: MissingFile when one is gone."""
        keys = [row_id(name, int(number)) for name, numbers in rows.items() for number in numbers]
        for start in range(0, len(keys), _COMPARED_ROWS):
            some = keys[start : start + _COMPARED_ROWS]
            listed = ", ".join(f'"{key}"' for key in some)
            answer = self._server.query(self._collection, f'kb == "{self._kb_id}" and id in [{listed}]', ["id", "vector"], self._since)
            vectors = {str(one["id"]): one["vector"] for one in answer}
            if len(vectors) < len(some):
                raise MissingFile(f"{len(some) - len(vectors)} rows of knowledge base {self._kb_id} are not in Milvus")
            scores = self._queries @ np.array([vectors[key] for key in some], dtype=np.float32).T
            _extend(found, [self._shown(list(zip(some, its_scores, strict=True))) for its_scores in scores.tolist()])


def lines_of(live: Live) -> MilvusLines:
    """The lines of a segment that this adapter opened."""
    lines = live.view.segment.lines
    assert isinstance(lines, MilvusLines), "a segment of another adapter"
    return lines


def _questions(live: Sequence[Live]) -> Iterator[dict[str, NDArray[np.int64]]]:
    """The rows that may be found, by segment, so many at a time as one question bears."""
    question: dict[str, NDArray[np.int64]] = {}
    room = _LISTED_ROWS
    for one in live:
        numbers = np.arange(one.view.segment.count) if one.chosen is None else one.chosen.numbers
        while len(numbers):
            question[one.view.segment.header.id] = numbers[:room]
            room, numbers = room - len(numbers[:room]), numbers[room:]
            if not room:
                yield question
                question, room = {}, _LISTED_ROWS
    if question:
        yield question


def _extend(found: Sequence[Found], more: Sequence[Found]) -> None:
    for ones, its_more in zip(found, more, strict=True):
        ones.extend(its_more)


def _best(found: Found, count: int) -> Ranked:
    places = np.array([place for place, _ in found], dtype=np.int64)
    scores = np.array([score for _, score in found], dtype=np.float32)
    return best(places, np.clip(scores, -1, 1), count)
