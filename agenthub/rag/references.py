"""How rows name files on the volume. Light on purpose: a process that serves no knowledge bases imports nothing heavier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that was made once: its name relative to the knowledge base's folder, its length and its hash (hex)."""

    name: str
    length_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a knowledge base's row says: which generation is current and which manifest lists its segments.

    A commit that adds no files, such as a delete, moves the generation and keeps the manifest.
    """

    generation: int
    epoch: int
    name: str
    sha256: str
    length_bytes: int

    @property
    def file(self) -> FileRef:
        """The manifest's file."""
        return FileRef(self.name, self.length_bytes, self.sha256)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A delete of a document or a chunk, committed as `generation`. It hides the copies in segments that cover less."""

    kind: Literal["document", "chunk"]
    target_id: str
    generation: int
