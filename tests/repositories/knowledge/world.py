"""A knowledge base over memory storage and a volume in memory, written to through the real repositories, beside a plain model."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agenthub.core.clock import Clock
from agenthub.core.ids import new_id
from agenthub.core.types import DocumentId, KnowledgeBaseId, TenantId
from agenthub.rag.configuration import MilvusSettings, RagSettings
from agenthub.rag.disk import Disk
from agenthub.rag.embedding.contract import ModelSignature
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest
from agenthub.rag.milvus.segments import MilvusSegments
from agenthub.rag.segment import Chunk
from agenthub.rag.volume import Volume
from agenthub.repositories.knowledge.commits import Burial, Effect, KnowledgeCommits
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.storage.contract import Storage
from agenthub.storage.memory import MemoryStorage
from tests.rag.samples import milvus_file

TENANT = TenantId("tenant")
SIGNATURE = "test;dimension=4;metric=cosine"


class MemoryDisk(Disk):
    """Files in memory: quick, and without a real file system's help."""

    def __init__(self) -> None:
        self.folders: set[tuple[str, ...]] = set()
        self.contents: dict[tuple[str, ...], bytearray] = {}
        self._open: dict[int, tuple[str, ...]] = {}
        self._places: dict[int, int] = {}
        self._next = 1000
        self.full = False

    def _opened(self, path: tuple[str, ...]) -> int:
        self._next += 1
        self._open[self._next], self._places[self._next] = path, 0
        return self._next

    def open_root(self, root: Path) -> int:
        if () not in self.folders:
            raise FileNotFoundError(errno.ENOENT, str(root))
        return self._opened(())

    def make_root(self, root: Path) -> None:
        self.folders.add(())

    def open_folder(self, parent: int, name: str) -> int:
        path = (*self._open[parent], name)
        if path not in self.folders:
            raise FileNotFoundError(errno.ENOENT, name)
        return self._opened(path)

    def make_folder(self, parent: int, name: str) -> bool:
        path = (*self._open[parent], name)
        made = path not in self.folders
        self.folders.add(path)
        return made

    def create(self, folder: int, name: str) -> int:
        path = (*self._open[folder], name)
        if self.full:
            raise OSError(errno.ENOSPC, name)
        if path in self.contents:
            raise FileExistsError(errno.EEXIST, name)
        self.contents[path] = bytearray()
        return self._opened(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        self.contents[self._open[descriptor]] += data
        return len(data)

    def sync_file(self, descriptor: int) -> None:
        assert descriptor in self._open

    def sync_folder(self, descriptor: int) -> None:
        assert descriptor in self._open

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def open_file(self, folder: int, name: str) -> int:
        path = (*self._open[folder], name)
        if path not in self.contents:
            raise FileNotFoundError(errno.ENOENT, name)
        return self._opened(path)

    def size(self, descriptor: int) -> int:
        return len(self.contents[self._open[descriptor]])

    def read_into(self, descriptor: int, buffer: memoryview) -> int:
        data, place = self.contents[self._open[descriptor]], self._places[descriptor]
        count = min(len(buffer), len(data) - place)
        buffer[:count] = data[place : place + count]
        self._places[descriptor] += count
        return count

    def remove_file(self, folder: int, name: str) -> None:
        path = (*self._open[folder], name)
        if path not in self.contents:
            raise FileNotFoundError(errno.ENOENT, name)
        del self.contents[path]

    def remove_folder(self, parent: int, name: str) -> None:
        path = (*self._open[parent], name)
        if any(other[: len(path)] == path and other != path for other in (*self.contents, *self.folders)):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        self.folders.discard(path)

    def names(self, folder: int) -> list[str]:
        path = self._open[folder]
        depth = len(path)
        return sorted({other[depth] for other in (*self.contents, *self.folders) if len(other) > depth and other[:depth] == path})

    def free(self, descriptor: int) -> tuple[int, int]:
        return 0, 0


def vector_of(text: str, dimension: int = 4) -> NDArray[np.float32]:
    """The same vector for the same text."""
    return np.random.default_rng(sum(map(ord, text)) * 7919 + len(text)).normal(size=dimension).astype(np.float32)


def signature_of(model: str, dimension: int) -> ModelSignature:
    """What vectors of a model of the tests say of themselves."""
    return ModelSignature(model, "1", "provider", dimension, None)


@dataclass
class World:
    """One knowledge base. `content` is what readers see: the texts by document."""

    storage: Storage = field(default_factory=MemoryStorage)
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    base_id: str = field(default_factory=new_id)
    clock: Clock | None = None
    milvus: bool = False
    name: str = field(default_factory=new_id)
    model: str | None = None

    def __post_init__(self) -> None:
        volume = Volume(Path("/memory"), mapping="never", disk=self.disk)
        volume._kind = "memory"
        self.volume = volume
        self.engine = self.new_engine()

    def new_engine(self) -> KnowledgeEngine:
        """An engine that has nothing in memory yet."""
        settings = RagSettings(mapping="never", turn_seconds=0)
        segments = MilvusSegments(self.volume, settings, MilvusSettings(milvus_file())) if self.milvus else None
        return KnowledgeEngine(self.volume, settings, segments=segments)

    def rows(self) -> list[bytes]:
        """Everything that Milvus holds of the knowledge base: a line and a vector a row."""
        assert isinstance(self.engine.segments, MilvusSegments)
        server = self.engine.segments._server
        found = server.query(server.collection(4), f'kb == "{self.base_id}"', ["line", "vector"], 0)
        return [row["line"].encode() + np.array(row["vector"], dtype="<f4").tobytes() for row in found]

    def create(self) -> World:
        """The empty knowledge base."""
        now, signature = self.storage.now(), SIGNATURE if self.model is None else signature_of(self.model, 4).text
        pointer = self.engine.put_manifest(self.base_id, Manifest.empty(self.base_id, signature, "create", now))
        row = KnowledgeBase(
            id=KnowledgeBaseId(self.base_id),
            tenant_id=TENANT,
            name=self.name,
            name_key=self.name,
            description="",
            state="active",
            embedding_model=self.model,
            signature=signature,
            dimension=4,
            language="english",
            chunking={},
            generation=0,
            epoch=0,
            manifest_name="",
            manifest_sha256="",
            manifest_length_bytes=0,
            operation_id="",
            document_count=0,
            chunk_count=0,
            size_bytes=0,
            created_by="user",
            created_at=now,
            updated_at=now,
        )
        KnowledgeBaseRepository(self.storage).create(replace(row.pointing_to(pointer, "create", now), version=1))
        return self

    @property
    def base(self) -> KnowledgeBase:
        return KnowledgeBaseRepository(self.storage).get(TENANT, self.base_id)

    def document(self, key: str, generation: int, now: datetime, count: int, original: str = "") -> Document:
        return Document(
            id=DocumentId(key),
            tenant_id=TENANT,
            knowledge_base_id=KnowledgeBaseId(self.base_id),
            title=key,
            filename=None,
            media_type="text/plain",
            size_bytes=1,
            sha256="0" * 64,
            original_name=original,
            language=None,
            page_count=None,
            character_count=1,
            chunk_count=count,
            metadata={},
            generation=generation,
            revision=1,
            created_by="user",
            created_at=now,
            updated_at=now,
        )

    def add(self, key: str, *texts: str, original: bytes | None = None, storage: Storage | None = None) -> int:
        """Add a document with these chunks; returns the generation."""
        return int(self.write(key, texts, original, storage or self.storage, replacing=False))

    def replace(self, key: str, *texts: str, storage: Storage | None = None) -> int:
        """Replace a document; raises NotFound when it isn't there."""
        return int(self.write(key, texts, None, storage or self.storage, replacing=True))

    def write(self, key: str, texts: Sequence[str], original: bytes | None, storage: Storage, *, replacing: bool) -> Any:
        documents = DocumentRepository(storage)
        commits = KnowledgeCommits(storage, self.engine)
        chunks = [Chunk(new_id(), key, text, {}) for text in texts]

        def plan(base: KnowledgeBase, generation: int, now: datetime) -> Effect:
            new = self.document(key, generation, now, len(chunks), name)
            if not replacing:
                return Effect(generation, "add", writes=(documents.insertion(new),), documents_delta=1, chunks_delta=len(chunks))
            old = documents.get_in(TENANT, base.id, key)
            after = replace(new, revision=old.revision + 1, version=old.version + 1)
            delta = len(chunks) - old.chunk_count
            buried = (Burial("document", key),)
            return Effect(generation, "replace", buried, tuple(documents.replacement(old, after)), chunks_delta=delta)

        base = KnowledgeBaseRepository(storage).get(TENANT, self.base_id)
        with commits.staging(base) as staging:
            name = staging.put_original(original).name if original is not None else ""
            staging.write_segment(chunks, np.stack([vector_of(text, base.dimension) for text in texts]))
            return staging.publish(plan)

    def delete(self, key: str, storage: Storage | None = None) -> int:
        """Delete a document; raises NotFound when it isn't there."""
        documents = DocumentRepository(storage or self.storage)

        def plan(base: KnowledgeBase, generation: int, _now: datetime) -> Effect:
            old = documents.get_in(TENANT, base.id, key)
            writes = tuple(documents.removal(old, generation))
            return Effect(generation, "delete", (Burial("document", key),), writes, -1, -old.chunk_count)

        base = KnowledgeBaseRepository(storage or self.storage).get(TENANT, self.base_id)
        return int(KnowledgeCommits(storage or self.storage, self.engine).publish(base, (), plan))

    def content(self, storage: Storage | None = None) -> dict[str, list[str]]:
        """What a reader that has nothing in memory sees now, asked document by document of every segment."""
        engine = self.new_engine()
        base, searcher = Snapshots(storage or self.storage, engine).open(TENANT, self.base_id)
        seen: dict[str, list[str]] = {}
        for view in searcher._views:
            for row in range(view.segment.count) if view.visible is None else np.flatnonzero(view.visible):
                chunk = view.segment.lines.chunk(int(row))
                seen.setdefault(chunk.document_id or "", []).append(chunk.text)
        assert sum(map(len, seen.values())) == base.chunk_count == searcher.chunk_count
        return {key: sorted(texts) for key, texts in seen.items()}

    def documents(self) -> list[Document]:
        """The rows of the knowledge base's documents."""
        return list(DocumentRepository(self.storage).page_in(TENANT, self.base_id, limit=200).items)

    @property
    def segments(self) -> int:
        """How many segments the current manifest lists."""
        return len(self.engine.read_manifest(self.base_id, self.base.pointer).segments)
