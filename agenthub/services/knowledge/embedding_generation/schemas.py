"""Request and answer shapes of embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agenthub.web.schema import Count, Schema

EmbeddedText = Annotated[str, Field(min_length=1, max_length=100_000)]


class Embed(Schema):
    """Up to 500 texts to embed with one model; left out, the server's default model."""

    texts: Annotated[tuple[EmbeddedText, ...], Field(min_length=1, max_length=500)]
    model: str | None = Field(default=None, min_length=1, max_length=200)
    encoding: Literal["float", "base64"] = Field(default="float", description="numbers, or base64 of little-endian float32")


class Embedded(Schema):
    """The vectors in the order of the texts, each of length one. Compare them only with vectors of the same `signature`."""

    model: str
    signature: str
    dimension: int
    embeddings: tuple[tuple[float, ...] | str, ...]


class ModelOut(Schema):
    """A model of this server. `dimension` is null until an endpoint has been asked for it."""

    model: str
    origin: Literal["embedded", "endpoint"]
    default: bool
    dimension: int | None
    max_tokens: int | None


class ModelsOut(Schema):
    """The models a knowledge base can be pinned to."""

    items: tuple[ModelOut, ...]


class CacheServerOut(Schema):
    """One cache server as it says itself. `reason` says why it can't be used now; null: it doesn't say."""

    address: str
    ok: bool
    reason: str | None
    version: str | None
    entries: Count | None
    size_bytes: Count | None
    max_bytes: Count | None
    hits: Count | None
    misses: Count | None
    evictions: Count | None
    connections: Count | None
    uptime_seconds: Count | None


class CacheKindOut(Schema):
    """What one kind of entry was to this process since it started. Bytes are those of values, `mean_ms` is per operation."""

    kind: str
    hits: Count
    misses: Count
    hit_ratio: float | None
    errors: Count
    forged: Count
    read_bytes: Count
    written_bytes: Count
    operations: Count
    mean_ms: float | None


class CacheFlush(Schema):
    """Which kind of entry to forget."""

    kind: Literal["embedding", "result", "rate"]


class CacheFlushed(Schema):
    """What was put out of use, and for whom: all processes (within 5 seconds), or this one where each has its own memory."""

    kind: str
    reach: Literal["all_processes", "this_process"]


class CacheWarmed(Schema):
    """Who was asked to warm: all processes (within 5 seconds), or this one where each has its own memory."""

    reach: Literal["all_processes", "this_process"]


class WarmingOut(Schema):
    """The last warming of this process; `ended` says whether a bound or a stop ended it before the last knowledge base."""

    knowledge_bases: Count
    opened_bytes: Count
    embeddings: Count
    failures: Count
    seconds: float
    ended: Literal["done", "time", "stopped"]


class CacheOut(Schema):
    """What the embedding cache did since this process started, and what the cache behind it holds."""

    backend: str
    hits: Count
    misses: Count
    hit_ratio: float | None
    entries: Count | None
    size_bytes: Count | None
    max_bytes: Count | None
    errors: Count
    forged: Count
    kinds: tuple[CacheKindOut, ...]
    warmed: WarmingOut | None
    servers: tuple[CacheServerOut, ...]
