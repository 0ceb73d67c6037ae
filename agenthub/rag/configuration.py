"""The engine's numbers, each with a unit, a bound and one home."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from agenthub.core.errors import InvalidInput, SettingsError

Mapping = Literal["auto", "always", "never"]
MIB: Final = 1024 * 1024
_FORMS: Final = "write http://HOST:19530 (https://… for TLS) for a server, or a path that ends in .db for a file"


@dataclass(frozen=True, slots=True)
class RagSettings:
    """How the knowledge engine uses memory and disk. None of these changes an answer or a file."""

    segment_cache_bytes: int = 512 * MIB
    """Opened segments kept per process, least recently used dropped first; those in use by a search stay until it ends."""
    searcher_cache_count: int = 64
    """Pinned snapshots kept per process."""
    manifest_cache_count: int = 256
    """Parsed manifests kept per process."""
    mapping: Mapping = "auto"
    """Whether segment files are memory-mapped: `auto` maps on local file systems and reads into private memory elsewhere."""
    free_space_floor_bytes: int = 64 * MIB
    """Space that new files leave free, so that the database beside them can go on; never more than 5 % of the volume."""
    brute_force_fraction: float = 0.05
    """Below this fraction of selected rows a filtered search multiplies just those rows instead of asking the index."""

    turn_seconds: float = 5.0
    """How long a thread waits for another's commit to the same knowledge base before it races with it; 0: it never waits."""

    def __post_init__(self) -> None:
        """Raises: InvalidInput when a number is out of its range."""
        for name in ("segment_cache_bytes", "searcher_cache_count", "manifest_cache_count", "free_space_floor_bytes", "turn_seconds"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative", field=name)
        if not 0 <= self.brute_force_fraction <= 1:
            raise InvalidInput("brute_force_fraction must lie in 0..1", field="brute_force_fraction")


@dataclass(frozen=True, slots=True)
class RerankSettings:
    """A reranking endpoint."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 10.0
    pause_failures: int = 5
    pause_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class MilvusSettings:
    """The Milvus that keeps chunks and vectors: a server by its URL, or the file of a Milvus Lite in this very process.

    `token` is an API key or `user:password`. Every call ends within `timeout_seconds`.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    timeout_seconds: float = 10.0

    @property
    def lite(self) -> bool:
        """Whether it is a file: one process's alone."""
        return "://" not in self.url


def parse_vector_url(url: str) -> MilvusSettings:
    """The settings of a `VECTOR_STORE_URL`, other fields at their defaults.

    Raises: SettingsError, saying what to write instead.
    """
    if "://" not in url:
        if url.endswith(".db"):
            return MilvusSettings(str(Path(url).expanduser().absolute()))
        raise SettingsError([f"VECTOR_STORE_URL is neither a URL nor a file of Milvus Lite: {_FORMS}"])
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError([f"VECTOR_STORE_URL has the unknown scheme {parts.scheme}: {_FORMS}"])
    if parts.username or parts.password or parts.query:
        raise SettingsError(["VECTOR_STORE_URL holds credentials or parameters: put the key, or user:password, into VECTOR_STORE_TOKEN"])
    return MilvusSettings(url)
