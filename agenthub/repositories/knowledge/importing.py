"""A bundle becomes a knowledge base: everything is checked, nothing is embedded, and nobody sees it before it is whole.

The row exists from the start in the state `importing`, which no reader finds. One commit at the end makes it active. After a
refusal nothing is left; after a crash the rows are removed by the next import, and the files by the collector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import (
    AlreadyExists,
    GenerationConflict,
    InvalidInput,
    MalformedInput,
    NotFound,
    OutcomeUnknown,
    StorageUnavailable,
    VersionConflict,
)
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import new_id, random_name
from agenthub.core.types import DocumentId, KnowledgeBaseId, TenantId
from agenthub.rag.bundle import HEAD, MAX_PART_BYTES, MAX_TAIL_BYTES, TAIL, BundleReader, ContentDigest, part_name, read_object
from agenthub.rag.chunks import Chunk, id_hashes
from agenthub.rag.configuration import MIB
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import FIRST_GENERATION, Manifest
from agenthub.rag.references import FileRef
from agenthub.repositories.base import OperationRepeated, Repository
from agenthub.repositories.knowledge.bundle_contents import (
    BundledDocument,
    Head,
    check_original,
    parse_chunks,
    parse_documents,
    parse_vectors,
)
from agenthub.repositories.knowledge.commits import KnowledgeCommits, Staging
from agenthub.repositories.knowledge.documents import Document, DocumentRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository, name_key, operation_record
from agenthub.repositories.knowledge.ledger import INTENTS, OPERATIONS
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import And, Compare, DbNow, Delete, DeleteWhere, Insert, Query, Storage, Update, Write

_SEGMENT_ROWS: Final = 32_768
_SEGMENT_BYTES: Final = 128 * MIB
_HEAD_BYTES: Final = 64 * 1024
_TAIL_FIELDS: Final = frozenset({"format", "document_count", "chunk_count", "content_sha256", "members"})


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made."""

    knowledge_base: KnowledgeBase
    content_sha256: str


ImportedAnswer = Callable[[Imported], object]
"""Makes the request's answer of what was imported."""

HeadCheck = Callable[[Head], None]
"""Raises ModelMismatch when this deployment has not the model that made the bundle's vectors."""


@dataclass(slots=True)
class _Arriving:
    """A bundle that is being read."""

    head: Head
    staging: Staging
    reader: BundleReader
    creator: str
    now: datetime
    digest: ContentDigest
    documents: dict[str, str] = field(default_factory=dict)
    chunk_counts: Counter[str] = field(default_factory=Counter)
    originals: dict[str, FileRef] = field(default_factory=dict)
    question_keys: set[str] = field(default_factory=set)
    chunks: list[Chunk] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    waiting_bytes: int = 0
    ids: list[NDArray[np.uint64]] = field(default_factory=list)
    document_bytes: int = 0

    @property
    def base(self) -> KnowledgeBase:
        return self.staging.base


class Imports(Repository[KnowledgeBase]):
    """Makes knowledge bases of bundles."""

    table = KnowledgeBaseRepository.table
    entity = KnowledgeBase
    resource_kind = "knowledge_base"

    def __init__(self, storage: Storage, engine: KnowledgeEngine, operation: Operation | None = None, *, most_original_bytes: int) -> None:
        """`most_original_bytes`: the longest original to take, the same as for an upload."""
        super().__init__(storage, operation)
        self._engine = engine
        self._most_original_bytes = most_original_bytes

    def take(self, tenant_id: TenantId, creator: str, stream: BinaryIO, name: str | None, check: HeadCheck, answer: ImportedAnswer) -> Any:
        """A new knowledge base with a bundle's contents, named `name` or as the bundle says. Reads the stream once.

        Raises: MalformedInput, InvalidInput and PayloadTooLarge saying what is wrong with the bundle; what `check` raises;
        AlreadyExists, field `name`; VolumeFull; VolumeUnavailable. Then nothing of it is left.
        """
        self._sweep(tenant_id)
        reader = BundleReader(stream)
        head = Head.parse(_expected(reader, HEAD, _HEAD_BYTES))
        check(head)
        head = replace(head, name=name or head.name)
        if self._find_one(tenant_id=tenant_id, name_key=name_key(head.name)) is not None:
            raise AlreadyExists(self.table.name, ["name"], field="name")
        base = _draft(head, tenant_id, creator, self.now())
        self._storage.commit([Insert(self.table, row_of(base))])
        try:
            with KnowledgeCommits(self._storage, self._engine, self._operation).staging(base) as staging:
                digest = ContentDigest(head.signature, head.dimension, head.language)
                return self._publish(self._read(_Arriving(head, staging, reader, creator, base.created_at, digest)), answer)
        except OutcomeUnknown:
            raise
        except BaseException:
            self._forget(base)
            raise

    # --- reading ---

    def _read(self, arriving: _Arriving) -> _Arriving:
        """Everything between the head and the last member, in the one order there is."""
        found = arriving.reader.next_name()
        number = 1
        while found is not None and found[0] != TAIL and not found[0].startswith("chunks-"):
            number += self._take_document_member(arriving, found, number)
            found = arriving.reader.next_name()
        if arriving.originals:
            raise InvalidInput("the bundle has an original that no document claims")
        number = 1
        while found is not None and found[0] != TAIL:
            self._take_chunks(arriving, found, number)
            found = arriving.reader.next_name()
            number += 1
        if found is None:
            raise MalformedInput("the bundle ends before its manifest")
        self._check_end(arriving, found[1])
        return arriving

    def _take_document_member(self, arriving: _Arriving, found: tuple[str, int], number: int) -> int:
        """An original, or the part that tells of the documents of the originals before it; returns how many parts that was."""
        name, length = found
        if name == part_name("documents", number):
            self._take_documents(arriving, arriving.reader.data(name, length, MAX_PART_BYTES), name)
            return 1
        folder, _, key = name.partition("/")
        if folder != "originals" or key in arriving.originals or key in arriving.documents:
            raise InvalidInput("the bundle is not well-formed: its members are not in order")
        arriving.originals[key] = arriving.staging.put_original(arriving.reader.data(name, length, self._most_original_bytes))
        return 0

    def _take_documents(self, arriving: _Arriving, data: bytes, name: str) -> None:
        writes: list[Write] = []
        for said, bundled in parse_documents(data, name, arriving.head.format):
            document = _document(arriving, bundled, _original_of(arriving, bundled))
            arriving.documents[bundled.id] = document.id
            arriving.chunk_counts[bundled.id] = bundled.chunk_count
            arriving.document_bytes += bundled.size_bytes
            arriving.digest.add_document(bundled.id, said)
            writes.append(Insert(DocumentRepository.table, row_of(document)))
        if len(arriving.documents) > arriving.head.document_count:
            raise InvalidInput("the bundle has more documents than it says")
        try:
            self._storage.commit(writes)
        except AlreadyExists as error:
            raise InvalidInput("two documents of the bundle have the same source or content") from error

    def _take_chunks(self, arriving: _Arriving, found: tuple[str, int], number: int) -> None:
        name, length = found
        vectors = arriving.reader
        if name != part_name("chunks", number):
            raise InvalidInput("the bundle is not well-formed: its members are not in order")
        chunks = parse_chunks(arriving.reader.data(name, length, MAX_PART_BYTES), name, arriving.documents)
        rows = parse_vectors(_expected(vectors, part_name("vectors", number), MAX_PART_BYTES), len(chunks), arriving.head.dimension)
        arriving.digest.add_chunks(chunks, rows)
        arriving.ids.append(id_hashes([chunk.id for chunk in chunks]))
        arriving.chunk_counts.subtract(chunk.document_id for chunk in chunks if chunk.document_id is not None)
        arriving.chunks += [_renamed(chunk, arriving.documents) for chunk in chunks]
        arriving.vectors.append(rows)
        arriving.waiting_bytes += length + rows.nbytes
        if sum(map(len, arriving.ids)) > arriving.head.chunk_count:
            raise InvalidInput("the bundle has more chunks than it says")
        if len(arriving.chunks) >= _SEGMENT_ROWS or arriving.waiting_bytes >= _SEGMENT_BYTES:
            _write_segment(arriving)

    def _check_end(self, arriving: _Arriving, length: int) -> None:
        """The counts, the listed hashes, the digest, and nothing behind."""
        reader, head = arriving.reader, arriving.head
        tail = read_object(reader.data(TAIL, length, MAX_TAIL_BYTES), TAIL, _TAIL_FIELDS)
        if reader.next_name() is not None:
            raise InvalidInput("the bundle goes on after its manifest")
        reader.check_tail(tail)
        ids = np.concatenate(arriving.ids) if arriving.ids else np.zeros(0, dtype=np.uint64)
        if len(np.unique(ids)) != len(ids):
            raise InvalidInput("the bundle has a chunk twice")
        counted = (len(arriving.documents), len(ids))
        if counted != (head.document_count, head.chunk_count) or counted != (tail["document_count"], tail["chunk_count"]):
            raise InvalidInput("the bundle has other numbers of documents or chunks than it says")
        if any(arriving.chunk_counts.values()):
            raise InvalidInput("a document of the bundle has another number of chunks than it says")
        if tail["content_sha256"] != arriving.digest.hexdigest():
            raise InvalidInput("the bundle's contents do not have the digest it says")
        if arriving.chunks:
            _write_segment(arriving)

    # --- publishing ---

    def _publish(self, arriving: _Arriving, answer: ImportedAnswer) -> Any:
        base, staging = arriving.base, arriving.staging
        operation_id = self._operation.id or random_name()
        now = self.now()
        entries = tuple(replace(entry, covers_generation=FIRST_GENERATION) for entry in staging.segments)
        manifest = replace(Manifest.empty(base.id, base.signature, operation_id, now), segments=entries)
        pointer = self._engine.put_manifest(base.id, manifest)
        after = replace(
            base.pointing_to(pointer, operation_id, now),
            state="active",
            name_key=name_key(base.name),
            document_count=arriving.head.document_count,
            chunk_count=arriving.head.chunk_count,
            size_bytes=arriving.document_bytes,
        )
        result = answer(Imported(after, arriving.digest.hexdigest()))
        failpoint("import.before")
        try:
            self._activate(after, staging, result, arriving)
        except BaseException as error:
            if not isinstance(error, OutcomeUnknown):
                self._engine.discard_manifest(base.id, pointer)
            raise
        failpoint("import.after")
        return result

    def _activate(self, after: KnowledgeBase, staging: Staging, result: object, arriving: _Arriving) -> None:
        head = arriving.head
        details = {"from_generation": head.generation, "content_sha256": arriving.digest.hexdigest()}
        counts = {"documents_delta": head.document_count, "chunks_delta": head.chunk_count}
        record = operation_record(after, self._operation, "import", after.updated_at, details=details, **counts)
        changes = {name: value for name, value in row_of(after).items() if name not in ("id", "tenant_id", "version")}
        alive = And((Compare("fence", "eq", staging.fence), Compare("expires_at", "gt", DbNow())))
        writes: list[Write] = [
            Update(self.table, after.tenant_id, after.id, changes, None, Compare("state", "eq", "importing")),
            Delete(INTENTS, after.tenant_id, staging.intent_id, where=alive),
            Insert(OPERATIONS, row_of(record)),
        ]
        try:
            self._commit(after.tenant_id, writes, result, "import", after.id)
        except AlreadyExists as error:
            if error.table == OPERATIONS.name:
                raise OperationRepeated from error
            raise AlreadyExists(error.table, ["name"], field="name") from error
        except (VersionConflict, NotFound) as error:
            raise GenerationConflict("this import took too long and was given up; try again", retry_after_seconds=1) from error
        except OutcomeUnknown:
            if self._storage.get(OPERATIONS, after.tenant_id, record.id) is None:
                raise

    # --- tidying up ---

    def _forget(self, base: KnowledgeBase) -> None:
        """Remove the rows of an import that failed. What can't be removed now is removed by the next import."""
        mine = And((Compare("knowledge_base_id", "eq", base.id),))
        unseen = Compare("state", "eq", "importing")
        with suppress(StorageUnavailable):
            self._storage.commit(
                [
                    Delete(self.table, base.tenant_id, base.id, where=unseen, missing_ok=True),
                    DeleteWhere(DocumentRepository.table, base.tenant_id, mine),
                    DeleteWhere(INTENTS, base.tenant_id, mine),
                ]
            )

    def _sweep(self, tenant_id: TenantId) -> None:
        """Remove what imports left whose process died: their intents have run out."""
        where = And((Compare("state", "eq", "importing"), Compare("created_at", "lt", DbNow(-60))))
        for row in self._storage.find(self.table, tenant_id, Query(where, limit=100)):
            alive = And((Compare("knowledge_base_id", "eq", row["id"]), Compare("expires_at", "gt", DbNow())))
            if not self._storage.count(INTENTS, tenant_id, alive):
                self._forget(self.from_row(row))


def _expected(reader: BundleReader, name: str, most_bytes: int) -> bytes:
    """The next member, which has to be this one."""
    found = reader.next_name()
    if found is None or found[0] != name:
        raise MalformedInput(f"no bundle, or not well-formed: {name} should come here")
    return reader.data(name, found[1], most_bytes)


def _write_segment(arriving: _Arriving) -> None:
    arriving.staging.write_segment(arriving.chunks, np.concatenate(arriving.vectors))
    arriving.chunks, arriving.vectors, arriving.waiting_bytes = [], [], 0


def _renamed(chunk: Chunk, documents: dict[str, str]) -> Chunk:
    return chunk if chunk.document_id is None else replace(chunk, document_id=documents[chunk.document_id])


def _original_of(arriving: _Arriving, bundled: BundledDocument) -> str:
    """The name of a document's original on this volume; empty for a FAQ.

    Raises: InvalidInput when it has none, or the wrong one, or the same document or question came before.
    """
    original = arriving.originals.pop(bundled.id, None)
    if bundled.faq is None:
        if original is None:
            raise InvalidInput("the bundle has a document without an original, or one twice")
        check_original(bundled, original.sha256, original.length_bytes)
        return original.name
    if original is not None or bundled.id in arriving.documents or bundled.faq.key in arriving.question_keys:
        raise InvalidInput("the bundle has a FAQ with an original, or one twice")
    arriving.question_keys.add(bundled.faq.key)
    return ""


def _document(arriving: _Arriving, bundled: BundledDocument, original_name: str) -> Document:
    """The document under a new id: ids are unique in a deployment, and one that is taken may be another organization's."""
    return Document(
        id=DocumentId(new_id()),
        tenant_id=arriving.base.tenant_id,
        knowledge_base_id=arriving.base.id,
        title=bundled.title,
        filename=bundled.filename,
        media_type=bundled.media_type,
        size_bytes=bundled.size_bytes,
        sha256=bundled.sha256,
        original_name=original_name,
        language=bundled.language,
        page_count=bundled.page_count,
        character_count=bundled.character_count,
        chunk_count=bundled.chunk_count,
        metadata=bundled.metadata,
        generation=FIRST_GENERATION,
        revision=1,
        created_by=arriving.creator,
        created_at=min(bundled.created_at, arriving.now),
        updated_at=arriving.now,
        **(bundled.faq.columns() if bundled.faq else {}),
        source=bundled.source,
        content_key=bundled.content_key,
    )


def _draft(head: Head, tenant_id: TenantId, creator: str, now: datetime) -> KnowledgeBase:
    return KnowledgeBase(
        id=KnowledgeBaseId(new_id()),
        tenant_id=tenant_id,
        name=head.name,
        name_key=None,
        description=head.description,
        state="importing",
        embedding_model=head.embedding_model,
        signature=head.signature,
        dimension=head.dimension,
        language=head.language,
        chunking=head.chunking,
        generation=0,
        epoch=0,
        manifest_name="",
        manifest_sha256="",
        manifest_length_bytes=0,
        operation_id="",
        document_count=0,
        chunk_count=0,
        size_bytes=0,
        created_by=creator,
        created_at=now,
        updated_at=now,
    )
