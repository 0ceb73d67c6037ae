"""Request and answer shapes of generations, restores and named snapshots."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from agenthub.web.schema import Id, Name, Schema

GenerationNumber = Annotated[int, Field(ge=1, le=2**53)]


class ChangeOut(Schema):
    """One write of a knowledge base. Counts are those after it, deltas its own; writes committed together share a generation.

    `retained` says whether this generation can still be searched, compared, exported and restored.
    """

    generation: int
    kind: Literal["create", "import", "add", "replace", "delete", "restore", "merge", "erase", "reembed"]
    actor_kind: str
    actor_id: str | None
    created_at: datetime
    document_count: int
    chunk_count: int
    size_bytes: int
    documents_delta: int
    chunks_delta: int
    details: dict[str, Any]
    retained: bool


class GenerationOut(Schema):
    """One generation: what it holds, and the write (or the writes, committed together) that made it."""

    generation: int
    current: bool
    retained: bool
    document_count: int
    chunk_count: int
    size_bytes: int
    changes: tuple[ChangeOut, ...]


class DifferingDocument(Schema):
    """A document that differs between two generations: its title and chunks in the later one that has it."""

    id: Id
    title: str
    sha256: str
    chunk_count: int


class DifferenceOut(Schema):
    """From generation `first` to generation `last`. Each list names up to 1,000 documents; the counts are of all.

    Chunks that belong to no document only show in the chunk counts.
    """

    first: int
    last: int
    added: tuple[DifferingDocument, ...]
    removed: tuple[DifferingDocument, ...]
    replaced: tuple[DifferingDocument, ...]
    added_count: int
    removed_count: int
    replaced_count: int
    first_document_count: int
    last_document_count: int
    first_chunk_count: int
    last_chunk_count: int


class Restore(Schema):
    """Which generation to go back to."""

    generation: GenerationNumber


class RestoredOut(Schema):
    """The new `generation` has the contents of `restored_generation`."""

    generation: int
    restored_generation: int
    documents_changed: int
    document_count: int
    chunk_count: int


class SnapshotCreate(Schema):
    """A name for a generation, the current one if none is given. It is kept until the snapshot is removed."""

    name: Name
    generation: GenerationNumber | None = None


class SnapshotOut(Schema):
    """A named generation that is kept."""

    id: Id
    knowledge_base_id: Id
    name: str
    generation: int
    document_count: int
    chunk_count: int
    created_by: str | None
    created_at: datetime
