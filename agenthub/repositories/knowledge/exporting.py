"""Writing one generation as a bundle, while others write on. Only what is visible in that generation goes out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile
from agenthub.core.failpoints import failpoint
from agenthub.rag.bundle import BUNDLE_FORMAT, HEAD, PART_BYTES, PART_ROWS, BundleWriter, ContentDigest, json_line, part_name
from agenthub.rag.chunks import Chunk
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.merging import Burials, visible_rows
from agenthub.repositories.knowledge.documents import Document
from agenthub.repositories.knowledge.history import History
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.repositories.knowledge.pins import SnapshotRepository
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.storage.contract import Storage

HEAD_FIELDS = (
    "name",
    "description",
    "embedding_model",
    "signature",
    "dimension",
    "language",
    "chunking",
    "generation",
    "document_count",
    "chunk_count",
)
DOCUMENT_FIELDS = (
    "id",
    "title",
    "filename",
    "media_type",
    "size_bytes",
    "sha256",
    "language",
    "page_count",
    "character_count",
    "chunk_count",
    "metadata",
    "created_at",
)
FAQ_FIELDS = ("answer", "category", "priority")
OPTIONAL_DOCUMENT_FIELDS = ("source", "content_key")
"""Left out where a document has none."""
CHUNK_FIELDS = ("id", "document_id", "text", "context", "metadata")


@dataclass(frozen=True, slots=True)
class Content:
    """What a generation holds, in numbers and as a hash."""

    generation: int
    document_count: int
    chunk_count: int
    content_sha256: str


class Exports:
    """Reads whole generations."""

    def __init__(self, storage: Storage, engine: KnowledgeEngine) -> None:
        self._engine = engine
        self._history = History(storage)
        self._pins = SnapshotRepository(storage)
        self._snapshots = Snapshots(storage, engine)

    def digest(self, old: KnowledgeBase) -> Content:
        """What the generation that this row names holds. Reads all of it, a segment at a time.

        Raises: MissingFile; CorruptFile; VolumeUnavailable.
        """
        with self._pins.reading(old):
            digest = _digest_of(old)
            documents = chunks = 0
            for document in self._history.every_document(old):
                digest.add_document(document.id, _said(document))
                documents += 1
            for rows, vectors in self._chunks(old):
                digest.add_chunks(rows, vectors)
                chunks += len(rows)
        return Content(old.generation, documents, chunks, digest.hexdigest())

    def bundle(self, old: KnowledgeBase, done: Callable[[Content], None] | None = None) -> Generator[bytes, None, None]:
        """The bundle of the generation that this row names, piece by piece; the generation is pinned until the last one.

        `done` is told what was exported, before the last piece.
        Raises, also after the first piece: MissingFile; CorruptFile; VolumeUnavailable. A bundle that broke off lacks its end,
        and no import takes it.
        """
        with self._pins.reading(old):
            writer, digest = BundleWriter(), _digest_of(old)
            now = self._pins.now()
            head = {"format": BUNDLE_FORMAT, **{name: getattr(old, name) for name in HEAD_FIELDS}, "exported_at": now}
            yield writer.member(HEAD, json_line(head))
            yield from self._documents(old, writer, digest)
            yield from self._chunk_parts(old, writer, digest)
            failpoint("export.end")
            content = Content(old.generation, old.document_count, old.chunk_count, digest.hexdigest())
            if done is not None:
                done(content)
            counts = {"document_count": content.document_count, "chunk_count": content.chunk_count}
            yield writer.end({**counts, "content_sha256": content.content_sha256})

    def _documents(self, old: KnowledgeBase, writer: BundleWriter, digest: ContentDigest) -> Iterator[bytes]:
        """Each document's original (a FAQ has none), and after up to 1,024 of them what is known of these documents."""
        lines: list[bytes] = []
        number = count = 0
        for document in self._history.every_document(old):
            if document.kind == "document":
                yield writer.member(f"originals/{document.id}", self._engine.read_original(old.id, document.original))
            said = _said(document)
            digest.add_document(document.id, said)
            lines.append(json_line(said))
            count += 1
            if len(lines) == PART_ROWS or sum(map(len, lines)) >= PART_BYTES:
                number += 1
                yield writer.member(part_name("documents", number), b"".join(lines))
                lines = []
        if lines:
            yield writer.member(part_name("documents", number + 1), b"".join(lines))
        if count != old.document_count:
            raise CorruptFile(f"generation {old.generation} has {count} documents instead of {old.document_count}")

    def _chunk_parts(self, old: KnowledgeBase, writer: BundleWriter, digest: ContentDigest) -> Iterator[bytes]:
        number = count = 0
        for chunks, vectors in self._chunks(old):
            digest.add_chunks(chunks, vectors)
            count += len(chunks)
            for lines, rows in _parts(chunks, vectors):
                number += 1
                yield writer.member(part_name("chunks", number), lines)
                yield writer.member(part_name("vectors", number), rows.astype("<f4").tobytes())
        if count != old.chunk_count:
            raise CorruptFile(f"generation {old.generation} has {count} chunks instead of {old.chunk_count}")

    def _chunks(self, old: KnowledgeBase) -> Iterator[tuple[list[Chunk], NDArray[np.float32]]]:
        manifest = self._engine.read_manifest(old.id, old.pointer)
        burials = Burials(manifest.in_force(self._snapshots.tombstones(old)))
        for entry in manifest.segments:
            yield from visible_rows(self._engine.segments, old.id, entry, burials)


def _parts(chunks: list[Chunk], vectors: NDArray[np.float32]) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """The chunks as lines, in parts of bounded size, with their vectors."""
    lines: list[bytes] = []
    start = size = 0
    for place, chunk in enumerate(chunks):
        lines.append(json_line({name: getattr(chunk, name) for name in CHUNK_FIELDS}))
        size += len(lines[-1])
        if size >= PART_BYTES:
            yield b"".join(lines), vectors[start : place + 1]
            lines, start, size = [], place + 1, 0
    if lines:
        yield b"".join(lines), vectors[start:]


def _said(document: Document) -> dict[str, Any]:
    faq = {name: getattr(document, name) for name in FAQ_FIELDS} if document.kind == "faq" else None
    optional = {name: value for name in OPTIONAL_DOCUMENT_FIELDS if (value := getattr(document, name)) is not None}
    return {name: getattr(document, name) for name in DOCUMENT_FIELDS} | {"faq": faq} | optional


def _digest_of(base: KnowledgeBase) -> ContentDigest:
    return ContentDigest(base.signature, base.dimension, base.language)
