"""A searcher: one generation of a knowledge base, pinned. Whatever is committed meanwhile, its answers stay the same."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import InvalidInput
from agenthub.core.observe import Observer
from agenthub.rag.choosing import Chosen
from agenthub.rag.chunks import Chunk, decode_chunk, id_hashes
from agenthub.rag.contract import Finding
from agenthub.rag.filters import FilterNode
from agenthub.rag.fusion import FUSION_DEPTH, fuse
from agenthub.rag.joining import Joining, Neighbours, Run
from agenthub.rag.kept import Kept
from agenthub.rag.keyword_ranking import KeywordPart, KeywordRanking
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.matching import wanted_rows
from agenthub.rag.opened import OpenSegment
from agenthub.rag.query_text import Asked, QueryText
from agenthub.rag.ranking import Live, Ranked, best
from agenthub.rag.segment import analyzer_of
from agenthub.rag.selecting import selected_rows
from agenthub.rag.vectors import unit_vector
from agenthub.rag.views import SegmentView

MAX_TOP_K: Final = 100
_CHOICES_BYTES: Final = 16 * 1024 * 1024
"""Memory for the rows that recent filters chose, in each snapshot; making them costs 0.1 to 1 ms per 100,000 chunks and comparison."""
Mode = Literal["semantic", "keyword", "hybrid"]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One question. `semantic` needs the vector, `keyword` the text; `hybrid` uses what is given, and with both it fuses.

    The score is a cosine (-1..1) for semantic, BM25 (above 0, unbounded) for keyword, and for a fused search the mean of
    both sides' scaled scores (0..1); `min_score` is compared with it. `top_k` is 1..100. Unless `verbatim`, phrases in the text
    are demanded of every hit of either side, and what is left out is in none (agenthub/rag/query_text.py).
    """

    text: str | None
    vector: NDArray[np.float32] | None
    mode: Mode
    top_k: int
    filter: FilterNode | None = None
    min_score: float | None = None
    verbatim: bool = False


@dataclass(frozen=True)  # without slots, so that what is read from the line can be kept
class Hit:
    """A chunk that was found. `chunk` is its line of JSON, ready to be spliced: an object whose first field is the `id`.

    The other properties are read from that line when the first of them is asked for (Raises: CorruptFile when it is no chunk).
    A side that was not asked, or did not have the chunk among its best 100 in a fused search, has the score None.
    """

    chunk: bytes
    score: float
    semantic_score: float | None
    keyword_score: float | None

    @cached_property
    def _read(self) -> Chunk:
        return decode_chunk(self.chunk)

    @property
    def id(self) -> str:
        """The chunk's id."""
        return self._read.id

    @property
    def document_id(self) -> str | None:
        """The document it came from."""
        return self._read.document_id

    @property
    def text(self) -> str:
        """Its text."""
        return self._read.text

    @property
    def context(self) -> str:
        """The headings that lead to it; empty when there are none."""
        return self._read.context

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known about it."""
        return self._read.metadata


@dataclass(frozen=True, slots=True)
class _Found:
    """A hit before its chunk is read."""

    place: int
    score: float
    semantic: float | None
    keyword: float | None


class Searcher:
    """Search and look-ups in one generation. Safe to share between threads."""

    def __init__(self, generation: int, views: Sequence[SegmentView], finding: Finding, observer: Observer, joining: Joining) -> None:
        self.generation = generation
        self.chunk_count = sum(view.visible_count for view in views)
        self._views = tuple(view for view in views if view.visible_count)
        self._all_views = tuple(views)
        self._starts = [view.start for view in views]
        self._choices: Kept[str, list[Live]] = Kept(_CHOICES_BYTES, lambda live: sum(one.chosen.size_bytes for one in live if one.chosen))
        self._known_fields: dict[str, bool] = {}
        self._finding = finding
        self._observer = observer
        self._neighbours = Neighbours(self._views, joining)

    @property
    def segment_keys(self) -> frozenset[str]:
        """Which opened segments it keeps in memory."""
        return frozenset(view.key for view in self._all_views)

    @property
    def visible_counts(self) -> tuple[int, ...]:
        """How many rows of each segment are visible, in the manifest's order."""
        return tuple(view.visible_count for view in self._all_views)

    def search(self, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        """Each request's hits, best first; equal scores in the order the chunks were committed.

        There are fewer than `top_k` only where fewer chunks are visible, match and reach `min_score`.
        Raises: InvalidInput naming `vector` or `vectors[i]`, `query` or `queries[i]`, or `top_k`; CorruptFile.
        """
        _check(requests)
        found: list[list[_Found]] = [[] for _ in requests]
        if self._views:
            runs = self._neighbours.runs(len(requests))
            asked = {number: self._asked(request) for number, request in enumerate(requests) if _uses_text(request)}
            for numbers in _alike(requests, asked).values():
                self._search_alike([(number, requests[number]) for number in numbers], asked, runs, found)
        with self._timed("fetch"):
            return self._hits(found)

    def find_chunks(self, ids: Sequence[str]) -> dict[str, Chunk]:
        """Those of the chunks that are visible, by id."""
        return {chunk.id: chunk for chunk in self._chunks_of(ids)}

    def existing(self, ids: Iterable[str]) -> set[str]:
        """Which of these chunks are visible."""
        return {chunk.id for chunk in self._chunks_of(list(ids))}

    def has_field(self, name: str) -> bool:
        """Whether any chunk, visible or not, has this field in its metadata."""
        known = self._known_fields.get(name)
        if known is None:
            known = self._known_fields[name] = any(view.segment.columns.fields.find(name) >= 0 for view in self._views)
        return known

    def first_matching(self, node: FilterNode) -> Chunk | None:
        """The visible chunk committed first that the filter selects."""
        for view in self._views:
            rows = selected_rows(node, view.segment.columns)
            if view.visible is not None:
                rows &= view.visible
            if rows.any():
                return view.segment.lines.chunk(int(rows.argmax()))
        return None

    def document_chunks(self, document_id: str) -> list[Chunk]:
        """The visible chunks of a document by the number `position` in their metadata, then as they were committed."""
        places: list[tuple[OpenSegment, int]] = []
        for view in self._views:
            for _, rows in view.segment.columns.document_ids.find(id_hashes([document_id])):
                places += [(view.segment, row) for row in view.visible_rows(rows).tolist()]
        chunks = [decode_chunk(line) for line in self._finding.lines(places)]
        return sorted((chunk for chunk in chunks if chunk.document_id == document_id), key=_position)

    def _chunks_of(self, ids: Sequence[str]) -> list[Chunk]:
        hashes, wanted = id_hashes(ids), []
        places: list[tuple[OpenSegment, int]] = []
        for view in self._views:
            for place, rows in view.segment.columns.chunk_ids.find(hashes):
                visible = view.visible_rows(rows).tolist()
                places += [(view.segment, row) for row in visible]
                wanted += [ids[place]] * len(visible)
        chunks = [decode_chunk(line) for line in self._finding.lines(places)]
        return [chunk for chunk, name in zip(chunks, wanted, strict=True) if chunk.id == name]

    # -- searching

    def _asked(self, request: SearchRequest) -> Asked:
        text = request.text or ""
        query = QueryText.verbatim(text) if request.verbatim else QueryText.of(text)
        return Asked.of(query, analyzer_of(self._views[0].segment.header.language))

    def _search_alike(
        self, numbered: Sequence[tuple[int, SearchRequest]], asked: Mapping[int, Asked], runs: Sequence[Run], found: list[list[_Found]]
    ) -> None:
        """Answer requests that choose the same rows."""
        number, request = numbered[0]
        live = self._live(request.filter)
        if number in asked and asked[number].restricts:
            with self._timed("narrow"):
                live = [_narrowed(one, asked[number]) for one in live]
        semantic: dict[int, Ranked] = {}
        vectored = [(number, request) for number, request in numbered if _uses_vector(request)]
        if vectored:
            with self._timed("vector"):
                semantic = self._semantic(vectored, live, runs, len(found) > 1)
        for number, request in numbered:
            if not _uses_text(request):
                found[number] = _ranked(request, semantic.get(number), None)
                continue
            with self._timed("keyword"):
                keyword = self._keyword(request, asked[number], live, runs)
            with self._timed("fuse"):
                found[number] = _ranked(request, semantic.get(number), keyword)

    def _live(self, node: FilterNode | None) -> list[Live]:
        if node is None:
            return self._everything
        with self._timed("filter"):
            # By its text, because equality would mix up 1, 1.0 and true.
            return self._choices.get(repr(node), lambda: [self._selected(view, node) for view in self._views])

    @cached_property
    def _everything(self) -> list[Live]:
        return [Live(view, view.chosen) for view in self._views]

    @staticmethod
    def _selected(view: SegmentView, node: FilterNode) -> Live:
        rows = selected_rows(node, view.segment.columns)
        if view.visible is not None:
            rows &= view.visible
        return Live(view, Chosen.of(rows))

    def _semantic(
        self, numbered: Sequence[tuple[int, SearchRequest]], live: Sequence[Live], runs: Sequence[Run], many: bool
    ) -> dict[int, Ranked]:
        vectors = [self._query(request, f"vectors[{number}]" if many else "vector") for number, request in numbered]
        queries = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)
        depth = max(_depth(request) for _, request in numbered)
        ranked = self._finding.nearest(live, runs, queries, depth)
        return {number: one.head(_depth(request)) for (number, request), one in zip(numbered, ranked, strict=True)}

    def _query(self, request: SearchRequest, field: str) -> NDArray[np.float32]:
        vector = np.asarray(request.vector)
        dimension = self._views[0].segment.header.dimension
        if vector.shape != (dimension,):
            raise InvalidInput(f"this knowledge base's vectors have {dimension} numbers", field=field)
        return unit_vector(vector, field)

    def _keyword(self, request: SearchRequest, asked: Asked, live: Sequence[Live], runs: Sequence[Run]) -> Ranked:
        total = self._keyword_ranking.scores(asked.terms, asked.prefixes, runs)
        for one in live:
            if one.chosen is not None:
                total[one.start : one.start + len(one.chosen.rows)] *= one.chosen.rows
        places = np.flatnonzero(total)
        return best(places, total[places], _depth(request))

    @cached_property
    def _keyword_ranking(self) -> KeywordRanking:
        parts = [KeywordPart(view.segment.keywords, partial(_ordered, view), view.visible, view.start) for view in self._views]
        return KeywordRanking(parts)

    def _hits(self, found: Sequence[Sequence[_Found]]) -> list[list[Hit]]:
        lines = iter(self._finding.lines([self._row(one.place) for ones in found for one in ones]))
        return [[Hit(next(lines), one.score, one.semantic, one.keyword) for one in ones] for ones in found]

    def _row(self, place: int) -> tuple[OpenSegment, int]:
        view = self._all_views[bisect_right(self._starts, place) - 1]
        return view.segment, place - view.start

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._observer.time("vector_search", time.perf_counter() - started, phase=phase)


def _check(requests: Sequence[SearchRequest]) -> None:
    """Raises: InvalidInput when a request lacks what its mode needs."""
    many = len(requests) > 1
    for number, request in enumerate(requests):
        if not 1 <= request.top_k <= MAX_TOP_K:
            raise InvalidInput(f"top_k must be 1 to {MAX_TOP_K}", field="top_k")
        if not _uses_vector(request) and not _uses_text(request):
            name = "vector" if request.mode == "semantic" else "query"
            plural = "vectors" if name == "vector" else "queries"
            raise InvalidInput(f"a {request.mode} search needs a {name}", field=f"{plural}[{number}]" if many else name)


def _alike(requests: Sequence[SearchRequest], asked: Mapping[int, Asked]) -> dict[tuple[int, int], list[int]]:
    """The numbers of requests that choose the same rows; those with phrases are alone. Filters are compared by identity:
    equality would mix up 1, 1.0 and true.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for number, request in enumerate(requests):
        own = number if number in asked and asked[number].restricts else -1
        groups.setdefault((id(request.filter), own), []).append(number)
    return groups


def _narrowed(live: Live, asked: Asked) -> Live:
    """Those of the live rows that have what is demanded of them."""
    rows = wanted_rows(_ordered(live.view), asked.phrases, asked.excluded)
    if live.chosen is not None:
        rows &= live.chosen.rows
    return Live(live.view, Chosen.of(rows))


def _ordered(view: SegmentView) -> KeywordIndex:
    return view.segment.ordered_keywords


def _uses_vector(request: SearchRequest) -> bool:
    return request.vector is not None and request.mode != "keyword"


def _uses_text(request: SearchRequest) -> bool:
    return request.text is not None and request.mode != "semantic"


def _depth(request: SearchRequest) -> int:
    """How many each side has to give."""
    return FUSION_DEPTH if _uses_vector(request) and _uses_text(request) else request.top_k


def _ranked(request: SearchRequest, semantic: Ranked | None, keyword: Ranked | None) -> list[_Found]:
    """The request's best hits of one side, or of both fused."""
    if semantic is not None and keyword is not None:
        places, totals = fuse((semantic.places, semantic.scores), (keyword.places, keyword.scores))
        order = np.lexsort((places, -totals))[: request.top_k]
        pairs = list(zip(places[order].tolist(), totals[order].tolist(), strict=True))
    elif semantic is not None:
        return [_Found(place, score, score, None) for place, score in semantic.head(request.top_k).pairs() if score >= _floor(request)]
    else:
        pairs = [] if keyword is None else keyword.head(request.top_k).pairs()
    similar = dict(semantic.pairs()) if semantic is not None else {}
    worded = dict(keyword.pairs()) if keyword is not None else {}
    floor = _floor(request)
    return [_Found(place, score, similar.get(place), worded.get(place)) for place, score in pairs if score >= floor]


def _floor(request: SearchRequest) -> float:
    return -math.inf if request.min_score is None else request.min_score


def _position(chunk: Chunk) -> float:
    position = chunk.metadata.get("position")
    return float(position) if isinstance(position, int | float) and not isinstance(position, bool) else float("inf")
