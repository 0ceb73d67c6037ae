"""A segment's parts on the volume, and how a new one is written. A segment never changes once its header is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, InvalidInput, WrongVectorEngine
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

__all__ = [
    "Chunk",
    "Draft",
    "Elsewhere",
    "Part",
    "SegmentEntry",
    "SegmentHeader",
    "analyzer_of",
    "file_of",
    "put_header",
    "read_header",
    "segment_of",
    "write_segment",
]

_FORMAT: Final = 3
_REMOTE_FORMAT: Final = 4
_FORMATS: Final = frozenset({1, 2, _FORMAT, _REMOTE_FORMAT})
"""2 may have an index of lists, 3 has places and words in its keyword file, 4 is as 3 with chunks and vectors elsewhere."""
METRIC: Final = "cosine"
HEADER: Final = "segment.json"
VECTORS: Final = "vectors.f32"
CHUNKS: Final = "chunks.jsonl"
INDEX: Final = "index.faiss"
KEYWORDS: Final = "keywords.safetensors"
FILTERS: Final = "filters.safetensors"
FILES: Final = (VECTORS, CHUNKS, INDEX, KEYWORDS, FILTERS)
REMOTE: Final = b'"index": "milvus"'
"""Stands in the header of every segment whose rows are in Milvus, and in no other."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are read and verified together: how many, and the SHA-256 (hex) of their vectors and lines."""

    row_count: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where the rows of a segment are that are not on the volume.

    `written_at` is the server's own timestamp from which on all are found; 0 where it gives none. Lines too long for the server
    are those of `long_rows`, in the segment's chunk file.
    """

    collection: str
    written_at: int
    parts: tuple[Part, ...]
    long_rows: tuple[int, ...]


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
    elsewhere: Elsewhere | None = None

    def of_volume(self) -> SegmentHeader:
        """This header. Raises: WrongVectorEngine when the segment's rows are not on the volume."""
        if self.elsewhere is not None:
            raise WrongVectorEngine("this knowledge base is in Milvus: set VECTOR_STORE_URL, or import a bundle of it here")
        return self

    def encode(self) -> bytes:
        """The header's bytes."""
        files = {name: {"length_bytes": ref.length_bytes, "sha256": ref.sha256} for name, ref in self.files.items()}
        fields: dict[str, Any] = {
            "format": _FORMAT if self.elsewhere is None else _REMOTE_FORMAT,
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
        if self.elsewhere is not None:
            fields["elsewhere"] = asdict(self.elsewhere)
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def decode(cls, data: bytes, entry: SegmentEntry) -> SegmentHeader:
        """The header of this entry's segment.

        Raises: CorruptFile when it is another segment's, damaged, or of a format this version doesn't know.
        """
        fields = Fields.parse(data, entry.header.name)
        if fields.number("format") not in _FORMATS or fields.text("metric") != METRIC:
            raise CorruptFile(f"{entry.header.name} has a format this version of AgentHub does not know")
        files, elsewhere = fields.below("files"), _elsewhere(fields)
        header = cls(
            id=fields.text("id"),
            chunk_count=fields.number("chunk_count"),
            signature=fields.text("signature"),
            dimension=fields.number("dimension"),
            language=fields.text("language"),
            analyzer=fields.text("analyzer"),
            index=fields.text("index"),
            files={name: _reference(entry.id, name, files.below(name)) for name in FILES if elsewhere is None or files.has(name)},
            measured=_measured(fields),
            elsewhere=elsewhere,
        )
        if (header.id, header.chunk_count) != (entry.id, entry.chunk_count) or entry.header.name != file_of(entry.id, HEADER):
            raise CorruptFile(f"{entry.header.name} does not belong to the segment that names it")
        return header


def segment_of(name: str) -> str:
    """The id of the segment whose file this is; empty for other files."""
    folder, _, rest = name.partition("/")
    return rest.partition("/")[0] if folder == "segments" else ""


def file_of(segment_id: str, name: str) -> str:
    """A segment's file, relative to the knowledge base's folder."""
    return f"segments/{segment_id}/{name}"


def headers_last(names: Sequence[str]) -> list[str]:
    """The order in which files go: while anything of a segment is left, its header says that it was complete once."""
    return sorted(names, key=lambda name: (segment_of(name), name == file_of(segment_of(name), HEADER), name))


def _reference(segment_id: str, name: str, fields: Fields) -> FileRef:
    return FileRef(file_of(segment_id, name), fields.number("length_bytes"), fields.sha256("sha256"))


def _measured(fields: Fields) -> Measured | None:
    if not fields.has("measured"):
        return None
    found = fields.below("measured")
    probes = tuple((pair.number("depth"), pair.number("lists")) for pair in found.objects("probes"))
    return Measured(probes, found.number("reach_millionths") / 1e6)


def _elsewhere(fields: Fields) -> Elsewhere | None:
    if fields.number("format") != _REMOTE_FORMAT:
        return None
    found = fields.below("elsewhere")
    parts = tuple(Part(part.number("row_count"), part.sha256("sha256")) for part in found.objects("parts"))
    if sum(part.row_count for part in parts) != fields.number("chunk_count"):
        raise CorruptFile("the parts of a segment don't add up to its rows")
    return Elsewhere(found.text("collection"), found.number("written_at"), parts, found.numbers("long_rows"))


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


@dataclass(frozen=True, slots=True)
class Draft:
    """What a segment is going to hold, checked: vectors of length 1, the lines of its chunk file, and what is derived for every adapter."""

    id: str
    chunks: Sequence[Chunk]
    units: NDArray[np.float32]
    lines: bytes
    keywords: bytes
    filters: bytes

    @classmethod
    def of(cls, chunks: Sequence[Chunk], vectors: NDArray[np.float32], language: str) -> Draft:
        """The draft of a new segment.

        Raises: InvalidInput naming the item (`items[3].vector`) or `language`.
        """
        if not chunks or len(chunks) != len(vectors):
            raise InvalidInput("a segment has at least one chunk and a vector for each", field="items")
        units = unit_vectors(np.asarray(vectors))
        lines = encode_chunks(chunks)
        rows = list(ChunkLines(np.frombuffer(lines, dtype=np.uint8), len(chunks)).chunks())
        keywords = KeywordIndex.of((chunk.searched_text for chunk in rows), analyzer_of(language)).encode()
        return cls(random_name(), rows, units, lines, keywords, Columns.of(rows).encode())

    def header(self, signature: str, language: str, index: str, facts: Measured | None = None) -> SegmentHeader:
        """Its header, without files yet."""
        analyzer = analyzer_of(language).signature
        return SegmentHeader(self.id, len(self.chunks), signature, self.units.shape[1], language, analyzer, index, {}, facts)


def write_segment(
    volume: Volume, kb_id: str, chunks: Sequence[Chunk], vectors: NDArray[np.float32], *, signature: str, language: str
) -> SegmentEntry:
    """Write a new segment; every file is durable when this returns. Nothing refers to it until a manifest does.

    Vectors are scaled to length 1. After a failure its files are removed as far as possible.
    Raises: InvalidInput naming the item (`items[3].vector`); VolumeFull; VolumeUnavailable.
    """
    draft = Draft.of(chunks, vectors, language)
    index = make_index(draft.units)
    contents = {
        VECTORS: draft.units.astype("<f4", copy=False).data.cast("B"),
        CHUNKS: memoryview(draft.lines),
        INDEX: index.data,
        KEYWORDS: memoryview(draft.keywords),
        FILTERS: memoryview(draft.filters),
    }
    return _put_files(volume, kb_id, draft.header(signature, language, index.kind, index.facts), contents)


def _put_files(volume: Volume, kb_id: str, draft: SegmentHeader, contents: Mapping[str, memoryview]) -> SegmentEntry:
    """The files first, the header with their hashes last."""
    written: dict[str, FileRef] = {}
    try:
        for name, data in contents.items():
            written[name] = volume.put_new(kb_id, file_of(draft.id, name), data)
        return put_header(volume, kb_id, replace(draft, files=written))
    except BaseException:
        volume.discard(kb_id, list(written.values()))
        raise


def put_header(volume: Volume, kb_id: str, header: SegmentHeader) -> SegmentEntry:
    """Write the header of a segment whose files are there: with it the segment is whole.

    Raises: VolumeFull; VolumeUnavailable.
    """
    failpoint("segment.header")
    file = volume.put_new(kb_id, file_of(header.id, HEADER), header.encode())
    size_bytes = file.length_bytes + sum(ref.length_bytes for ref in header.files.values())
    return SegmentEntry(header.id, file, header.chunk_count, size_bytes, 0)
