"""Request and answer shapes of searches."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from agenthub.web.schema import Schema

MAX_QUERIES: Final = 100
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


class ResultOut(Schema):
    """The hits of one query of a batch, best first."""

    hits: tuple[HitOut, ...]


class SearchOut(Schema):
    """The hits, best first (`hits` for one query, `results` for a batch), all from one generation."""

    generation: int
    mode: Mode
    hits: tuple[HitOut, ...] | None = None
    results: tuple[ResultOut, ...] | None = None
