"""Writing a segment anew from its truth. The old files stay as they are: nothing on a volume is ever changed."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import CorruptFile, VolumeUnavailable
from agenthub.rag.chunks import ChunkLines
from agenthub.rag.faiss_codec import open_index
from agenthub.rag.references import FileRef
from agenthub.rag.segment import CHUNKS, INDEX, VECTORS, SegmentEntry, SegmentHeader, read_header, write_segment
from agenthub.rag.vectors import decode_vectors
from agenthub.rag.volume import Volume


def rewritten(volume: Volume, kb_id: str, entry: SegmentEntry) -> SegmentEntry:
    """A new segment with the same rows as this one, every derived file made again. Nothing refers to it yet.

    Vectors that are lost are taken from the index where it holds them exactly: they must have the hash that was written.
    Raises: MissingFile or CorruptFile, naming the file, when the truth can't be had; VolumeFull; VolumeUnavailable.
    """
    header = read_header(volume, kb_id, entry)
    lines = ChunkLines(volume.load(kb_id, header.files[CHUNKS]), header.chunk_count)
    vectors = truth_vectors(volume, kb_id, header)
    return write_segment(volume, kb_id, list(lines.chunks()), vectors, signature=header.signature, language=header.language)


def truth_vectors(volume: Volume, kb_id: str, header: SegmentHeader) -> NDArray[np.float32]:
    """A segment's vectors, exactly as they were written: from their file, or else from the index's copy of them.

    Raises: as `rewritten`.
    """
    wanted = header.files[VECTORS]
    try:
        return decode_vectors(volume.load(kb_id, wanted), header.chunk_count, header.dimension)
    except VolumeUnavailable as error:
        copy = _copy_in_index(volume, kb_id, header)
        if copy is None or not _is(copy, wanted):
            raise CorruptFile(f"{wanted.name} is damaged and the index has no exact copy of it: {error.message}") from error
        return copy


def _copy_in_index(volume: Volume, kb_id: str, header: SegmentHeader) -> NDArray[np.float32] | None:
    try:
        index = open_index(volume.load(kb_id, header.files[INDEX]), header.index, header.chunk_count, header.dimension)
    except VolumeUnavailable:
        return None
    return np.ascontiguousarray(index.vectors, dtype="<f4")


def _is(vectors: NDArray[np.float32], wanted: FileRef) -> bool:
    return vectors.nbytes == wanted.length_bytes and hashlib.sha256(vectors.data).hexdigest() == wanted.sha256
