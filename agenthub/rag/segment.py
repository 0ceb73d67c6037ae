"""A segment's parts on the volume, and how a new one is written. A segment never changes once its header is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, InvalidInput
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.rag.analysis import Analyzer
from agenthub.rag.chunks import Chunk, ChunkLines, encode_chunks
from agenthub.rag.columns import Columns
from agenthub.rag.fields import Fields
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.manifest import SegmentEntry
from agenthub.rag.references import FileRef
from agenthub.rag.vector_index import Measured, make_index
from agenthub.rag.vectors import unit_vectors
from agenthub.rag.volume import Volume

__all__ = ["Chunk", "SegmentEntry", "SegmentHeader", "analyzer_of", "file_of", "read_header", "write_segment"]

_FORMAT: Final = 3
_FORMATS: Final = frozenset({1, 2, _FORMAT})
"""2 may have an index of lists, 3 has places and words in its keyword file."""
METRIC: Final = "cosine"
HEADER: Final = "segment.json"
VECTORS: Final = "vectors.f32"
CHUNKS: Final = "chunks.jsonl"
INDEX: Final = "index.faiss"
KEYWORDS: Final = "keywords.safetensors"
FILTERS: Final = "filters.safetensors"
FILES: Final = (VECTORS, CHUNKS, INDEX, KEYWORDS, FILTERS)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What `segment.json` says: everything needed to open the other files, and the hash of each."""

    id: str
    chunk_count: int
    signature: str
    dimension: int
    language: str
    analyzer: str
    index: str
    files: Mapping[str, FileRef]
    measured: Measured | None = None

    def encode(self) -> bytes:
        """The header's bytes."""
        files = {name: {"length_bytes": ref.length_bytes, "sha256": ref.sha256} for name, ref in self.files.items()}
        fields: dict[str, Any] = {
            "format": _FORMAT,
            "id": self.id,
            "chunk_count": self.chunk_count,
            "signature": self.signature,
            "dimension": self.dimension,
            "metric": METRIC,
            "language": self.language,
            "analyzer": self.analyzer,
            "index": self.index,
            "files": files,
        }
        if self.measured is not None:
            probes = [{"depth": depth, "lists": lists} for depth, lists in self.measured.probes]
            fields["measured"] = {"probes": probes, "reach_millionths": round(self.measured.reach * 1e6)}
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def decode(cls, data: bytes, entry: SegmentEntry) -> SegmentHeader:
        """The header of this entry's segment.

        Raises: CorruptFile when it is another segment's, damaged, or of a format this version doesn't know.
        """
        fields = Fields.parse(data, entry.header.name)
        if fields.number("format") not in _FORMATS or fields.text("metric") != METRIC:
            raise CorruptFile(f"{entry.header.name} has a format this version of AgentHub does not know")
        files = fields.below("files")
        header = cls(
            id=fields.text("id"),
            chunk_count=fields.number("chunk_count"),
            signature=fields.text("signature"),
            dimension=fields.number("dimension"),
            language=fields.text("language"),
            analyzer=fields.text("analyzer"),
            index=fields.text("index"),
            files={name: _reference(entry.id, name, files.below(name)) for name in FILES},
            measured=_measured(fields),
        )
        if (header.id, header.chunk_count) != (entry.id, entry.chunk_count) or entry.header.name != file_of(entry.id, HEADER):
            raise CorruptFile(f"{entry.header.name} does not belong to the segment that names it")
        return header


def file_of(segment_id: str, name: str) -> str:
    """A segment's file, relative to the knowledge base's folder."""
    return f"segments/{segment_id}/{name}"


def _reference(segment_id: str, name: str, fields: Fields) -> FileRef:
    return FileRef(file_of(segment_id, name), fields.number("length_bytes"), fields.sha256("sha256"))


def _measured(fields: Fields) -> Measured | None:
    if not fields.has("measured"):
        return None
    found = fields.below("measured")
    probes = tuple((pair.number("depth"), pair.number("lists")) for pair in found.objects("probes"))
    return Measured(probes, found.number("reach_millionths") / 1e6)


@cache
def analyzer_of(language: str) -> Analyzer:
    """The one analyzer of a language in this process.

    Raises: InvalidInput, field `language`, when there is none.
    """
    return Analyzer(language)


def read_header(volume: Volume, kb_id: str, entry: SegmentEntry) -> SegmentHeader:
    """A segment's verified header.

    Raises: MissingFile; CorruptFile; VolumeUnavailable.
    """
    return SegmentHeader.decode(volume.read(kb_id, entry.header), entry)


def write_segment(
    volume: Volume, kb_id: str, chunks: Sequence[Chunk], vectors: NDArray[np.float32], *, signature: str, language: str
) -> SegmentEntry:
    """Write a new segment; every file is durable when this returns. Nothing refers to it until a manifest does.

    Vectors are scaled to length 1. After a failure its files are removed as far as possible.
    Raises: InvalidInput naming the item (`items[3].vector`); VolumeFull; VolumeUnavailable.
    """
    if not chunks or len(chunks) != len(vectors):
        raise InvalidInput("a segment has at least one chunk and a vector for each", field="items")
    units = unit_vectors(np.asarray(vectors))
    lines = encode_chunks(chunks)
    analyzer, index = analyzer_of(language), make_index(units)
    rows = list(ChunkLines(np.frombuffer(lines, dtype=np.uint8), len(chunks)).chunks())
    contents = {
        VECTORS: units.astype("<f4", copy=False).data.cast("B"),
        CHUNKS: memoryview(lines),
        INDEX: index.data,
        KEYWORDS: memoryview(KeywordIndex.of((chunk.searched_text for chunk in rows), analyzer).encode()),
        FILTERS: memoryview(Columns.of(rows).encode()),
    }
    draft = SegmentHeader(random_name(), len(chunks), signature, units.shape[1], language, analyzer.signature, index.kind, {}, index.facts)
    return _put_files(volume, kb_id, draft, contents)


def _put_files(volume: Volume, kb_id: str, draft: SegmentHeader, contents: Mapping[str, memoryview]) -> SegmentEntry:
    """The files first, the header with their hashes last."""
    written: dict[str, FileRef] = {}
    try:
        for name, data in contents.items():
            written[name] = volume.put_new(kb_id, file_of(draft.id, name), data)
        failpoint("segment.header")
        header = volume.put_new(kb_id, file_of(draft.id, HEADER), replace(draft, files=written).encode())
    except BaseException:
        volume.discard(kb_id, list(written.values()))
        raise
    size_bytes = header.length_bytes + sum(ref.length_bytes for ref in written.values())
    return SegmentEntry(draft.id, header, draft.chunk_count, size_bytes, 0)
