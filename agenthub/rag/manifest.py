"""Manifests: the list of segments of one generation, and the pointer a knowledge base's row holds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

import orjson

from agenthub.core.errors import CorruptFile
from agenthub.core.json import dumps
from agenthub.rag.fields import Fields
from agenthub.rag.references import FileRef, Pointer, Tombstone

MANIFEST_FORMAT: Final = 1
REVOKING_FORMAT: Final = 2
"""A manifest that revokes tombstones: a reader that does not know it would hide what a restore brought back."""
FIRST_GENERATION: Final = 1


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment as a manifest lists it.

    `covers_generation` is the generation up to which deletes are already applied: for an append, the one that committed it,
    and 0 until then. `size_bytes` is the sum of its files. `restored_generation` is that of the restore that listed it anew, 0
    if none did: other chunks of it may be visible than before, so what was made of the entry before can't take its place.
    """

    id: str
    header: FileRef
    chunk_count: int
    size_bytes: int
    covers_generation: int
    restored_generation: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Generations from `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The segments of one generation. `sha256` is the hash of its file, empty until it was written or read.

    Tombstones of the generations in `revoked` hide nothing here: a restore took them back. Spans are ascending and apart.
    """

    kb_id: str
    generation: int
    epoch: int
    signature: str
    parent_sha256: str
    operation_id: str
    created_at: str
    segments: tuple[SegmentEntry, ...]
    revoked: tuple[Span, ...] = ()
    sha256: str = ""

    @classmethod
    def empty(cls, kb_id: str, signature: str, operation_id: str, now: datetime) -> Manifest:
        """The first manifest of a knowledge base: generation 1, no segments."""
        return cls(kb_id, FIRST_GENERATION, 0, signature, "", operation_id, _rfc3339(now), ())

    def successor(self, *, added: Sequence[SegmentEntry] = (), operation_id: str, now: datetime, generation: int | None = None) -> Manifest:
        """The manifest of the next generation: these segments and the added ones.

        `generation` is the row's next one; by default the one after this manifest's, which `KnowledgeEngine.read_manifest`
        sets to the pointer's. Added entries get it as `covers_generation`: a delete committed before hides nothing in them.
        """
        next_generation = self.generation + 1 if generation is None else generation
        if next_generation <= self.generation:
            raise ValueError(f"generation {next_generation} does not follow {self.generation}")
        entries = tuple(replace(entry, covers_generation=next_generation) for entry in added)
        return replace(
            self,
            generation=next_generation,
            parent_sha256=self.sha256,
            operation_id=operation_id,
            created_at=_rfc3339(now),
            segments=self.segments + entries,
            sha256="",
        )

    def restoring(self, old: Manifest) -> Manifest:
        """This manifest with the contents of an older generation: its segments in their model, and no delete that came after it."""
        entries = tuple(replace(entry, restored_generation=self.generation + 1) for entry in old.segments)
        return replace(
            self, signature=old.signature, segments=entries, revoked=_with_span(old.revoked, Span(old.generation + 1, self.generation))
        )

    def in_force(self, tombstones: Sequence[Tombstone]) -> list[Tombstone]:
        """Those of the tombstones that hide something in this generation: whoever applies tombstones asks this first."""
        if not self.revoked:
            return list(tombstones)
        return [one for one in tombstones if not any(span.first <= one.generation <= span.last for span in self.revoked)]

    def encode(self) -> bytes:
        """The manifest's file."""
        fields = {
            "format": REVOKING_FORMAT if self.revoked else MANIFEST_FORMAT,
            "kb_id": self.kb_id,
            "generation": self.generation,
            "epoch": self.epoch,
            "signature": self.signature,
            "parent_sha256": self.parent_sha256,
            "operation_id": self.operation_id,
            "created_at": self.created_at,
            "segments": [_entry_fields(entry) for entry in self.segments],
        }
        if self.revoked:
            fields["revoked"] = [{"first": span.first, "last": span.last} for span in self.revoked]
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def decode(cls, data: bytes, kb_id: str, pointer: Pointer) -> Manifest:
        """The manifest in these bytes, at the pointer's generation.

        Raises: CorruptFile when it is another knowledge base's, newer than its pointer, damaged or of an unknown format.
        """
        fields = Fields.parse(data, pointer.name)
        written = fields.number("format")
        if written not in (MANIFEST_FORMAT, REVOKING_FORMAT):
            raise CorruptFile(f"{pointer.name} has a format this version of AgentHub does not know")
        manifest = cls(
            kb_id=fields.text("kb_id"),
            generation=fields.number("generation"),
            epoch=fields.number("epoch"),
            signature=fields.text("signature"),
            parent_sha256=fields.text("parent_sha256"),
            operation_id=fields.text("operation_id"),
            created_at=fields.text("created_at"),
            segments=tuple(_entry(item) for item in fields.objects("segments")),
            revoked=_spans(fields) if written == REVOKING_FORMAT else (),
            sha256=pointer.sha256,
        )
        if manifest.kb_id != kb_id or manifest.generation > pointer.generation or manifest.epoch > pointer.epoch:
            raise CorruptFile(f"{pointer.name} does not belong to the row that names it")
        return manifest


def _with_span(spans: Sequence[Span], new: Span) -> tuple[Span, ...]:
    """The spans and the new one, which ends last; those that touch become one."""
    if new.first > new.last:
        return tuple(spans)
    kept = [span for span in spans if span.last < new.first - 1]
    first = min([new.first, *(span.first for span in spans if span.last >= new.first - 1)])
    return (*kept, Span(first, new.last))


def _spans(fields: Fields) -> tuple[Span, ...]:
    spans = tuple(Span(item.number("first"), item.number("last")) for item in fields.objects("revoked"))
    ordered = all(a.last < b.first for a, b in pairwise(spans)) and all(span.first <= span.last for span in spans)
    if not ordered:
        raise CorruptFile("a manifest revokes generations out of order")
    return spans


def _rfc3339(now: datetime) -> str:
    text: str = orjson.loads(dumps(now))
    return text


def _entry_fields(entry: SegmentEntry) -> dict[str, object]:
    header = {"name": entry.header.name, "length_bytes": entry.header.length_bytes, "sha256": entry.header.sha256}
    fields = {
        "id": entry.id,
        "header": header,
        "chunk_count": entry.chunk_count,
        "size_bytes": entry.size_bytes,
        "covers_generation": entry.covers_generation,
    }
    return fields | ({"restored_generation": entry.restored_generation} if entry.restored_generation else {})


def _entry(fields: Fields) -> SegmentEntry:
    header = fields.below("header")
    return SegmentEntry(
        id=fields.text("id"),
        header=FileRef(header.text("name"), header.number("length_bytes"), header.sha256("sha256")),
        chunk_count=fields.number("chunk_count"),
        size_bytes=fields.number("size_bytes"),
        covers_generation=fields.number("covers_generation"),
        restored_generation=fields.number("restored_generation") if fields.has("restored_generation") else 0,
    )
