"""Shadows: the rows of the current generation once more, with the vectors of another model, made piece by piece beside it (ADR 26).

A piece mirrors rows of one live segment. It is a segment like any other, named by a row (`Mirror`) and listed by no manifest, until a
switch lists pieces in the place of what they mirror. What is written meanwhile makes new live segments, which are gaps until they
are mirrored; deletes are tombstones, which hide rows of pieces as they do in what these mirror. So catching up is filling gaps, again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

from agenthub.core.errors import MissingFile
from agenthub.core.failpoints import failpoint
from agenthub.core.ids import new_id
from agenthub.rag.chunks import Chunk
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.manifest import Manifest, SegmentEntry
from agenthub.rag.merging import Burials
from agenthub.rag.merging_apart import rewrite_apart
from agenthub.rag.vectors import Vectors
from agenthub.repositories.knowledge.commits import KnowledgeCommits, Staging
from agenthub.repositories.knowledge.job_queue import JobQueue, Leased, held
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.known_vectors import KnownVectors
from agenthub.repositories.knowledge.reembeddings import MIRRORS, Mirror, Reembedding, ReembeddingRepository, mirroring, mirrors_of, moved
from agenthub.repositories.knowledge.snapshots import Snapshots
from agenthub.repositories.operations import Operation, row_of
from agenthub.storage.contract import Compare, DbNow, Delete, Insert, Storage, Update, Write

PIECE_ROWS: Final = 4096
"""Rows of a piece at most: half a minute of embedding, which is what a kill can cost."""
BATCH_TEXTS: Final = 128
QUICK_SECONDS: Final = 2.0
"""What is embedded within a switch, while writers wait, may take so long at the rate that was seen."""
_LIKELY_QUICK_ROWS: Final = 16
_MOST_LEFT: Final = 64
_MOST_QUICK_ROWS: Final = 512

BUILDING: Final = Compare("state", "eq", "building")
"""Only then may a runner write to a re-embedding."""

Embed = Callable[[Sequence[str]], Vectors]
"""Makes vectors, as slowly as was asked for."""
Over = Callable[[], bool]
"""Whether no further batch may be begun."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows of a live segment that nothing mirrors."""

    entry: SegmentEntry
    first: int
    count: int


def gaps_of(manifest: Manifest, mirrors: Sequence[Mirror]) -> list[Gap]:
    """What is missing to a shadow of this generation, in its order."""
    found: list[Gap] = []
    for entry in manifest.segments:
        place = 0
        for mirror in mirroring(entry, mirrors):
            if mirror.first_row > place:
                found.append(Gap(entry, place, mirror.first_row - place))
            place = max(place, mirror.first_row + mirror.row_count)
        if place < entry.chunk_count:
            found.append(Gap(entry, place, entry.chunk_count - place))
    return found


def shadow_of(manifest: Manifest, mirrors: Sequence[Mirror], signature: str) -> Manifest:
    """The manifest with what mirrors its segments in their place; gaps are not there."""
    entries = [mirror.entry for entry in manifest.segments for mirror in mirroring(entry, mirrors) if mirror.segment_id]
    return replace(manifest, signature=signature, segments=tuple(entries))


class Shadow:
    """The shadow of one re-embedding, in the hands of the runner that has its job's lease."""

    def __init__(self, queue: JobQueue, storage: Storage, engine: KnowledgeEngine, leased: Leased, row: Reembedding, embed: Embed) -> None:
        self._storage = storage
        self._engine = engine
        self._leased = leased
        self._row = row
        self._embed = embed
        self._queue = queue
        self._commits = KnowledgeCommits(storage, engine, Operation(leased.job.actor))
        self._snapshots = Snapshots(storage, engine)
        self._known = KnownVectors(storage, engine, row)
        self._counted = (row.embedded_count, row.reused_count)
        self._embedded, self._seconds = 0, 0.0
        self._reused = 0
        self._caught_up = False

    @property
    def quick_rows(self) -> int:
        """How many rows can be mirrored in about two seconds."""
        if not self._seconds:
            return _LIKELY_QUICK_ROWS
        return max(1, round(min(_MOST_QUICK_ROWS, self._embedded / self._seconds * QUICK_SECONDS)))

    @property
    def made_counts(self) -> tuple[int, int]:
        """How many rows were embedded, and how many vectors were found, by this runner."""
        return self._embedded, self._reused

    def base(self) -> KnowledgeBase:
        """The knowledge base as it is now. Raises: NotFound."""
        return KnowledgeBaseRepository(self._storage).get(self._row.tenant_id, self._row.knowledge_base_id)

    def mirrors(self, base: KnowledgeBase) -> list[Mirror]:
        """Its mirrors as they are now."""
        return mirrors_of(self._storage, base, self._row.id)

    def missing(self) -> int:
        """How many rows of the generation that is current now are not mirrored."""
        base = self.base()
        manifest = self._engine.read_manifest(base.id, base.pointer)
        return sum(gap.count for gap in gaps_of(manifest, self.mirrors(base)))

    def follows(self) -> bool:
        """Whether it was complete, and lacks what was written in the last moment at most.

        To demand that nothing is missing would be a race that busy writers win for ever.
        """
        missing = self.missing()
        return not missing or (self._caught_up and missing <= self.quick_rows)

    # --- filling gaps ---

    def fill(self, over: Over) -> None:
        """Mirror what is missing to the generation that is current now, piece by piece, until nothing is or it is `over`.

        Raises: LeaseLost when the job was taken away or the re-embedding ended; ErasedMeanwhile: read again; CorruptFile or MissingFile
        when a segment can't be read; as the embedder; VolumeFull; VolumeUnavailable.
        """
        base = self.base()
        try:
            self._fill(base, over)
        except MissingFile:
            if self.base().pointer == base.pointer:
                raise
            return  # it was merged and collected meanwhile: the next look at the manifest doesn't find it

    def _fill(self, base: KnowledgeBase, over: Over) -> None:
        manifest = self._engine.read_manifest(base.id, base.pointer)
        mirrors = self.mirrors(base)
        for gap in gaps_of(manifest, mirrors):
            chunks = islice(self._engine.segments.chunks(base.id, gap.entry), gap.first, gap.first + gap.count)
            place = gap.first
            while place < gap.first + gap.count:
                if over():
                    return
                self._known.learn(base, manifest, mirrors)
                place += self._piece(base, gap.entry, place, islice(chunks, PIECE_ROWS), over)
        self._caught_up = True

    def _piece(self, base: KnowledgeBase, entry: SegmentEntry, first: int, rows: Iterator[Chunk], over: Over) -> int:
        """Make and note one piece; how many rows of the live segment it stands for."""
        with self._commits.staging(moved(base, self._row), copying=True) as staging:
            now, burials = self._burials()
            count, chunks, vectors = self._made(entry, rows, burials, over)
            failpoint("reembed.embedded")
            if chunks:
                staging.write_segment(chunks, np.concatenate(vectors))
            failpoint("reembed.staged")
            self._note(staging, self._mirror(now, Gap(entry, first, count), staging.segments[0] if chunks else None))
        failpoint("reembed.noted")
        return count

    def _burials(self) -> tuple[KnowledgeBase, Burials]:
        """What hides rows, and as of which generation: read after the intent, as whoever erases relies on it."""
        now = self.base()
        return now, Burials(self._engine.read_manifest(now.id, now.pointer).in_force(self._snapshots.tombstones(now)))

    def _made(self, entry: SegmentEntry, rows: Iterator[Chunk], burials: Burials, over: Over) -> tuple[int, list[Chunk], list[Vectors]]:
        count, chunks, vectors = 0, list[Chunk](), list[Vectors]()
        while batch := list(islice(rows, BATCH_TEXTS)):
            visible = [chunk for chunk in batch if not burials.hide(chunk, entry.covers_generation)]
            if visible:
                vectors.append(self._vectors([chunk.searched_text for chunk in visible]))
            count += len(batch)
            chunks += visible
            if over():
                break
        return count, chunks, vectors

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        known = self._known.of(texts)
        new = [text for place, text in enumerate(texts) if place not in known]
        started = time.monotonic()
        made = iter(self._embed(new) if new else ())
        self._seconds += time.monotonic() - started
        self._embedded += len(new)
        self._reused += len(known)
        return np.stack([known[place] if place in known else next(made) for place in range(len(texts))])

    def _mirror(self, now: KnowledgeBase, rows: Gap, made: SegmentEntry | None) -> Mirror:
        return Mirror(
            id=new_id(),
            tenant_id=self._row.tenant_id,
            knowledge_base_id=now.id,
            reembedding_id=self._row.id,
            source_id=rows.entry.id,
            restored_generation=rows.entry.restored_generation,
            first_row=rows.first,
            row_count=rows.count,
            segment_id=made.id if made else "",
            header_name=made.header.name if made else "",
            header_length_bytes=made.header.length_bytes if made else 0,
            header_sha256=made.header.sha256 if made else "",
            chunk_count=made.chunk_count if made else 0,
            size_bytes=made.size_bytes if made else 0,
            covers_generation=now.generation,
        )

    def _note(self, staging: Staging, mirror: Mirror, *more: Write) -> None:
        row, (embedded, reused) = self._row, self._counted
        counts = {"embedded_count": embedded + self._embedded, "reused_count": reused + self._reused, "updated_at": DbNow()}
        done = sum((*self._counted, self._embedded, self._reused))
        self._queue.write(
            self._leased,
            held(
                self._leased, tries=0, error_code=None, error_message=None, done_count=done, total_count=max(staging.base.chunk_count, done)
            ),
            Update(ReembeddingRepository.table, row.tenant_id, row.id, counts, None, BUILDING),
            Insert(MIRRORS, row_of(mirror)),
            *more,
            staging.ending(),
        )

    def note_ready(self) -> None:
        """Say that it is complete and waits to be switched to. Raises: LeaseLost."""
        ready = {"state": "ready", "updated_at": DbNow()}
        moved_on = Update(ReembeddingRepository.table, self._row.tenant_id, self._row.id, ready, None, BUILDING)
        self._queue.write(self._leased, held(self._leased), moved_on)

    # --- order in what is there ---

    def settle(self) -> bool:
        """One step that makes few segments of many pieces, or gives up pieces that mirror nothing any more; False when none is due.

        Raises: as `fill`.
        """
        base = self.base()
        manifest = self._engine.read_manifest(base.id, base.pointer)
        mirrors = self.mirrors(base)
        for entry in manifest.segments:
            pieces = mirroring(entry, mirrors)
            if len(pieces) > 1 and not gaps_of(replace(manifest, segments=(entry,)), pieces):
                self._join(base, entry, pieces)
                return True
        live = {one.id for entry in manifest.segments for one in mirroring(entry, mirrors)}
        left = [one for one in mirrors if one.id not in live]
        # While little is missing, what is left is dropped in heaps: where writers never rest, something always is.
        if left and (len(left) >= _MOST_LEFT or not gaps_of(manifest, mirrors)):
            self._drop(base, left)
            return True
        return False

    def _join(self, base: KnowledgeBase, entry: SegmentEntry, pieces: Sequence[Mirror]) -> None:
        with self._commits.staging(moved(base, self._row), copying=True) as staging:
            now, burials = self._burials()
            inputs = [piece.entry for piece in pieces if piece.segment_id]
            signature, language = self._row.signature, base.language
            joined = rewrite_apart(self._engine.segments, base.id, inputs, burials, signature=signature, language=language)
            staging.segments += [joined] if joined else []
            failpoint("reembed.joined")
            gone = [Delete(MIRRORS, one.tenant_id, one.id) for one in pieces]
            self._note(staging, self._mirror(now, Gap(entry, 0, entry.chunk_count), joined), *gone)
        self._discard(base, pieces)

    def _drop(self, base: KnowledgeBase, mirrors: Sequence[Mirror]) -> None:
        for start in range(0, len(mirrors), BATCH_TEXTS):
            gone = [Delete(MIRRORS, one.tenant_id, one.id, missing_ok=True) for one in mirrors[start : start + BATCH_TEXTS]]
            self._queue.write(self._leased, held(self._leased), *gone)
        failpoint("reembed.dropped")
        self._discard(base, mirrors)

    def _discard(self, base: KnowledgeBase, mirrors: Sequence[Mirror]) -> None:
        """Remove files that no row names any more; what is left by a kill is collected."""
        for one in mirrors:
            if one.segment_id:
                self._engine.discard_segment(base.id, one.entry)
