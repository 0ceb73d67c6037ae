"""Segments opened for search: verified once, then shared by every searcher of the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, ModelMismatch, VolumeUnavailable
from agenthub.core.observe import Observer
from agenthub.rag.chunks import ChunkLines, Lines
from agenthub.rag.columns import Columns
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.segment import CHUNKS, FILTERS, INDEX, KEYWORDS, VECTORS, SegmentEntry, SegmentHeader, analyzer_of, read_header
from agenthub.rag.vector_index import Measured, VectorIndex, make_index, open_index
from agenthub.rag.vectors import Vectors, decode_vectors
from agenthub.rag.volume import Volume

_log = logging.getLogger("agenthub.rag")
_OBJECTS_BYTES: Final = 64 * 1024
"""What an open segment costs whatever its size: objects, and up to five maps, of which a process may have some 65,000."""
_DIMENSIONS: Final = range(1, 8193)
T = TypeVar("T")


class Deferred(Generic[T]):
    """A part that is made by the first thread that asks for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._lock = threading.Lock()
        self._value: T | None = None

    def get(self) -> T:
        """The part. Raises: what making it raises; the next one to ask tries again."""
        if self._make is not None:
            with self._lock:
                if self._make is not None:
                    self._value, self._make = self._make(), None
        return cast("T", self._value)


@dataclass(frozen=True)  # without slots, so that what is made when first asked for can be kept
class OpenSegment:
    """An immutable segment in memory. Row `r` means the same in all parts; keywords are read when first searched for.

    `index` is None where another process has it.
    """

    header: SegmentHeader
    index: VectorIndex | None
    lines: Lines
    words: Deferred[KeywordIndex]
    columns: Columns
    size_bytes: int

    @property
    def keywords(self) -> KeywordIndex:
        """What is searched by keyword."""
        return self.words.get()

    @property
    def count(self) -> int:
        """How many rows it has, visible or not."""
        return self.header.chunk_count

    @cached_property
    def ordered_keywords(self) -> KeywordIndex:
        """The keyword index with the order of texts, which files of formats 1 and 2 lack: there it is made again, once.

        Raises: CorruptFile.
        """
        return self.keywords if self.keywords.order is not None else _indexed(self.lines, self.header.language)


def open_segment(volume: Volume, kb_id: str, entry: SegmentEntry, signature: str, observer: Observer) -> OpenSegment:
    """The segment, every file used having the hash its header says.

    A derived file that is damaged or missing is made again in memory from the chunks and vectors.
    Raises: MissingFile; CorruptFile for chunks or vectors; ModelMismatch when it was made with another model signature;
    WrongVectorEngine when its chunks and vectors are not on the volume.
    """
    header = fitting_header(volume, kb_id, entry, signature).of_volume()
    lines = ChunkLines(volume.load(kb_id, header.files[CHUNKS]), header.chunk_count, volume.unload)
    opening = Opening(volume, kb_id, header, lines, observer)
    return opening.segment(opening.index())


def fitting_header(volume: Volume, kb_id: str, entry: SegmentEntry, signature: str) -> SegmentHeader:
    """The header of a segment of this model.

    Raises: MissingFile; CorruptFile; ModelMismatch when it was made with another model signature; VolumeUnavailable.
    """
    header = read_header(volume, kb_id, entry)
    if header.signature != signature:
        raise ModelMismatch(f"the segment {entry.id} was made with {header.signature!r}, not {signature!r}")
    if header.dimension not in _DIMENSIONS:
        raise CorruptFile(f"{entry.header.name} has an impossible dimension")
    return header


class Opening:
    """One segment being opened."""

    def __init__(self, volume: Volume, kb_id: str, header: SegmentHeader, lines: Lines, observer: Observer) -> None:
        self._volume = volume
        self._kb_id = kb_id
        self._header = header
        self._observer = observer
        self._lines = lines

    def index(self) -> VectorIndex:
        """The index of its vectors, from its file or made again."""
        return self._derived(INDEX, self._index, self._rebuilt_index)

    def segment(self, index: VectorIndex | None) -> OpenSegment:
        """The segment with this index (None: another process has it)."""
        header = self._header
        words = Deferred(lambda: self._derived(KEYWORDS, self._keywords, lambda: _indexed(self._lines, header.language)))
        columns = self._derived(FILTERS, self._columns, lambda: Columns.of(self._lines.chunks()))
        # Mapped pages are the system's, which takes them back when it needs them; numbers for each row are ours in any case.
        files = sum(header.files[name].length_bytes for name in (CHUNKS, KEYWORDS, FILTERS) if name in header.files)
        parts = files + (0 if index is None else index.size_bytes)
        size_bytes = (0 if self._volume.mapped else parts) + 12 * header.chunk_count + _OBJECTS_BYTES
        return OpenSegment(header, index, self._lines, words, columns, size_bytes)

    def _derived(self, name: str, read: Callable[[], T], rebuild: Callable[[], T]) -> T:
        try:
            return read()
        except VolumeUnavailable as error:
            _log.warning("rebuilding %s of segment %s of %s in memory: %s", name, self._header.id, self._kb_id, error.message)
            self._observer.count("rag_rebuilt_files", file=name)
        return rebuild()

    def _index(self) -> VectorIndex:
        header = self._header
        return self._opened(self._volume.load(self._kb_id, header.files[INDEX]), header.index, header.measured)

    def _rebuilt_index(self) -> VectorIndex:
        made = make_index(self._vectors())
        return self._opened(np.frombuffer(made.data, dtype=np.uint8), made.kind, made.facts)

    def _opened(self, data: NDArray[np.uint8], kind: str, facts: Measured | None) -> VectorIndex:
        return open_index(data, kind, facts, (self._header.chunk_count, self._header.dimension), self._vectors)

    def _vectors(self) -> Vectors:
        header = self._header
        return decode_vectors(self._volume.load(self._kb_id, header.files[VECTORS]), header.chunk_count, header.dimension)

    def _keywords(self) -> KeywordIndex:
        header = self._header
        if header.analyzer != analyzer_of(header.language).signature:
            raise CorruptFile(f"it was made by the analyzer {header.analyzer}")
        return KeywordIndex.decode(self._volume.load(self._kb_id, header.files[KEYWORDS]), header.chunk_count)

    def _columns(self) -> Columns:
        return Columns.decode(self._volume.load(self._kb_id, self._header.files[FILTERS]), self._header.chunk_count)


def _indexed(lines: Lines, language: str) -> KeywordIndex:
    return KeywordIndex.of((chunk.searched_text for chunk in lines.chunks()), analyzer_of(language))
