"""Request and answer shapes of searches."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from agenthub.repositories.knowledge.retrieving import MAX_NEIGHBOURS
from agenthub.web.schema import Schema

MAX_QUERIES: Final = 100
MAX_REFINED: Final = 20
"""Queries of a batch whose hits are chosen, surrounded or highlighted."""
MAX_QUERY_CHARACTERS: Final = 8_000

Mode = Literal["semantic", "keyword", "hybrid"]
QueryText = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)]
Vector = Annotated[str, Field(max_length=32_000)] | Annotated[tuple[float, ...], Field(max_length=4096)]
Field_ = Literal["text", "metadata", "scores"]
QuerySyntax = Literal["marks", "plain"]
_QUERY: Final = (
    'In `keyword` and `hybrid` search: `"words in quotation marks"` must be in every hit, in this order (in any form of each word); '
    '`-"words"` must not be; `begin*` finds words that begin so (two letters at least). The first 16 phrases and 8 beginnings count; '
    "more, and whatever is no such mark, are words. `query_syntax` turns this off."
)


class Search(Schema):
    """One search, or a batch: give `query` or `vector`, or `queries` or `vectors` (up to 100).

    A knowledge base with a model takes texts (or, for `semantic`, vectors of that model). One without takes vectors, texts for
    `keyword`, and both for `hybrid`. Left out, `mode` is the richest one that the given input allows.
    """

    query: QueryText | None = Field(default=None, description=_QUERY, examples=['"bank holiday" pay*'])
    vector: Vector | None = Field(default=None, description="numbers, or base64 of little-endian float32")
    queries: Annotated[tuple[QueryText, ...], Field(min_length=1, max_length=MAX_QUERIES)] | None = None
    vectors: Annotated[tuple[Vector, ...], Field(min_length=1, max_length=MAX_QUERIES)] | None = None
    top_k: int = Field(default=10, ge=1, le=100)
    mode: Mode | None = None
    query_syntax: QuerySyntax = Field(default="marks", description="`plain`: quotation marks, `*` and `-` in queries mean nothing")
    filter: dict[str, Any] | None = Field(
        default=None,
        description="a tree of and, or, not and comparisons of metadata fields",
        examples=[{"field": "lang", "op": "eq", "value": "en"}],
    )
    min_score: float | None = Field(default=None, ge=-1, le=1, description="leave out hits below this score")
    min_generation: int | None = Field(default=None, ge=0, le=2**53, description="409 unless at least this generation is searched")
    generation: int | None = Field(default=None, ge=1, le=2**53, description="search as of this generation; 410 when it is no longer kept")
    include: Annotated[tuple[Field_, ...], Field(max_length=3)] = ("text", "metadata")
    neighbours: int = Field(default=0, ge=0, le=MAX_NEIGHBOURS, description="so many chunks of the document before and after each hit")
    diversity: float | None = Field(
        default=None, ge=0, le=1, description="0: only relevance counts; 1: only newness (maximal marginal relevance over the hits' words)"
    )
    per_document: int | None = Field(default=None, ge=1, le=100, description="at most so many hits of one document")
    group: bool = Field(default=False, description="also list the documents of the hits, best first")
    highlight: bool = Field(default=False, description="where the query's words stand in each text, and its best sentence")
    exact_faqs: bool = Field(default=True, description="put the FAQ that asks the query's very question first, if there is one")
    rerank: bool = Field(default=False, description="let the reranking endpoint order the hits; 409 where none is configured")

    @property
    def refines(self) -> bool:
        """Whether more is wanted than hits as they are found."""
        chosen = self.diversity is not None or self.per_document is not None or self.neighbours
        return bool(chosen or self.group or self.highlight or self.rerank)


class NeighbourOut(Schema):
    """A chunk before or after a hit in its document."""

    chunk_id: str
    text: str


class HighlightsOut(Schema):
    """Places in the hit's text, as [start, end): of the query's words (the first 50), and of the sentence that fits best."""

    words: tuple[tuple[int, int], ...]
    passage: tuple[int, int]


class GroupOut(Schema):
    """A document of the hits, with their chunks, best first; null for chunks that belong to none."""

    document_id: str | None
    score: float
    chunk_ids: tuple[str, ...]


class HitOut(Schema):
    """A chunk that matches. `score` is the cosine for `semantic`, BM25 for `keyword`, and 0..1 for `hybrid`.

    `context` is the path of titles and headings that leads to the text, where there is one.
    """

    chunk_id: str
    document_id: str | None
    score: float
    text: str | None = None
    context: str | None = None
    metadata: dict[str, Any] | None = None
    semantic_score: float | None = None
    keyword_score: float | None = None
    exact: bool | None = Field(default=None, description="true: it is the FAQ that asks this very question")
    before: tuple[NeighbourOut, ...] | None = None
    after: tuple[NeighbourOut, ...] | None = None
    highlights: HighlightsOut | None = None


class ResultOut(Schema):
    """The hits of one query of a batch, best first."""

    hits: tuple[HitOut, ...]
    groups: tuple[GroupOut, ...] | None = None


class SearchOut(Schema):
    """The hits, best first (`hits` for one query, `results` for a batch), all from one generation."""

    generation: int
    mode: Mode
    hits: tuple[HitOut, ...] | None = None
    groups: tuple[GroupOut, ...] | None = None
    results: tuple[ResultOut, ...] | None = None
