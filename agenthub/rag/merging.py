"""Merging: which segments to write anew as one, and writing it. Which manifest comes to list the result is the repository's matter.

A merge copies vectors and chunks, so nothing is embedded again. It leaves out what is hidden, and so covers the generation it read;
a delete committed meanwhile is newer than that and goes on hiding what it hid (RELIABILITY.md B5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from agenthub.core.failpoints import failpoint
from agenthub.rag.chunks import Chunk
from agenthub.rag.contract import Segments
from agenthub.rag.manifest import Manifest, SegmentEntry, Span
from agenthub.rag.references import Tombstone
from agenthub.rag.vectors import Vectors

TIER_FACTOR: Final = 8
"""So many segments of one tier become one of the next: every chunk is written about once per tier."""
MOST_SEGMENTS: Final = 30
"""What merging keeps to, whatever the pattern of writes."""
CROWDED: Final = 24
"""Above so many the smallest are merged whatever their tiers, in time for writers to stay below `MOST_SEGMENTS`."""
ROOMY: Final = 12
"""How many are left then."""
_FEW: Final = 3
_WORTH: Final = 16
"""At rest up to three segments are left alone if all but the largest make up less than a sixteenth."""
FULL_CHUNKS: Final = 262_144
"""Segments from this size on are left alone unless there are too many: what one merge may hold in memory."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """How many chunks a segment has, and how many of them can still be seen."""

    chunk_count: int
    visible_count: int


def plan_merge(sizes: Sequence[SegmentSize], *, at_rest: bool = False) -> tuple[int, ...]:
    """The places of the segments to merge now, ascending; empty when nothing has to be.

    In order: the lowest tier that has `TIER_FACTOR` members, with every tier that this would fill; then the smallest ones
    above `CROWDED`; then those that are mostly hidden, once that is worth a commit; and where nobody writes (`at_rest`), all that
    one segment can hold, since each one costs every search.
    """
    largest = _full(sizes)
    mergeable = [place for place, size in enumerate(sizes) if size.visible_count < largest]
    chosen = _full_tier(sizes, mergeable) or _smallest(sizes) or _wasted(sizes) or (_scattered(sizes, mergeable) if at_rest else set())
    empty = {place for place, size in enumerate(sizes) if not size.visible_count} if chosen else set()
    return tuple(sorted({*chosen, *empty}))


def _full(sizes: Sequence[SegmentSize]) -> int:
    """From which size on a segment is left alone; grows with the whole, so that their number stays bounded."""
    return max(FULL_CHUNKS, sum(size.visible_count for size in sizes) // 8)


def tier(visible_count: int) -> int:
    """0 for 1 to 7 chunks, 1 up to 63, 2 up to 511, and so on."""
    found = 0
    while visible_count >= TIER_FACTOR:
        visible_count //= TIER_FACTOR
        found += 1
    return found


def _full_tier(sizes: Sequence[SegmentSize], mergeable: Sequence[int]) -> set[int]:
    tiers: dict[int, set[int]] = {}
    for place in mergeable:
        tiers.setdefault(tier(sizes[place].visible_count), set()).add(place)
    full = [number for number, members in sorted(tiers.items()) if len(members) >= TIER_FACTOR]
    if not full:
        return set()
    chosen = set(tiers[full[0]])
    while True:  # a tier that the result would fill is merged at once, not written twice
        result = tier(sum(sizes[place].visible_count for place in chosen))
        more = tiers.get(result, set()) - chosen
        if len(more) + 1 < TIER_FACTOR:
            return chosen
        chosen |= more


def _smallest(sizes: Sequence[SegmentSize]) -> set[int]:
    if len(sizes) <= CROWDED:
        return set()
    by_size = sorted(range(len(sizes)), key=lambda place: (sizes[place].visible_count, place))
    return set(by_size[: len(sizes) - ROOMY + 1])


def _wasted(sizes: Sequence[SegmentSize]) -> set[int]:
    """Segments more than half hidden, when they are many or make up a quarter of all chunks."""
    wasted = {place for place, size in enumerate(sizes) if 2 * size.visible_count < size.chunk_count}
    hidden = sum(sizes[place].chunk_count - sizes[place].visible_count for place in wasted)
    total = sum(size.chunk_count for size in sizes)
    return wasted if len(wasted) >= TIER_FACTOR or (4 * hidden >= total and hidden >= TIER_FACTOR**3) else set()


def _scattered(sizes: Sequence[SegmentSize], mergeable: Sequence[int]) -> set[int]:
    """The smallest ones that together fit one segment, unless a large one would be written anew for next to nothing."""
    chosen: list[int] = []
    total = 0
    for place in sorted(mergeable, key=lambda place: (sizes[place].visible_count, place)):
        if total + sizes[place].visible_count > FULL_CHUNKS:
            break
        chosen.append(place)
        total += sizes[place].visible_count
    if len(chosen) < 2:
        return set()
    largest = sizes[chosen[-1]].visible_count
    return set(chosen) if len(chosen) > _FEW or _WORTH * (total - largest) >= total else set()


class Burials:
    """Which chunks the tombstones of one generation hide, asked chunk by chunk."""

    def __init__(self, tombstones: Sequence[Tombstone]) -> None:
        self.tombstones = tuple(tombstones)
        self._newest: dict[tuple[str, str], int] = {}
        for one in tombstones:
            key = (one.kind, one.target_id)
            self._newest[key] = max(one.generation, self._newest.get(key, 0))

    def hide(self, chunk: Chunk, covers_generation: int) -> bool:
        """Whether this copy, in a segment that covers this generation, is hidden."""
        newest = self._newest.get(("chunk", chunk.id), 0)
        if chunk.document_id is not None:
            newest = max(newest, self._newest.get(("document", chunk.document_id), 0))
        return newest > covers_generation


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a merge does to a manifest: `inputs` go, `output` (None: nothing was visible) comes, `clear` are known to be unhidden.

    `generation` is the one that was read, with the tombstones `revoked` there: what it hid was left out.
    """

    inputs: tuple[SegmentEntry, ...]
    output: SegmentEntry | None
    generation: int
    clear: tuple[SegmentEntry, ...] = ()
    revoked: tuple[Span, ...] = ()

    def applied(self, manifest: Manifest) -> tuple[SegmentEntry, ...] | None:
        """The entries of the manifest's successor, or None when an input isn't in it as it was read.

        Neither is a manifest one that was read if a restore came between: it makes chunks visible again that this merge left
        out. Entries that nothing hid are stamped as covering that generation, so that tombstones can go.
        """
        present = set(manifest.segments)
        if not self.inputs or not present.issuperset(self.inputs) or manifest.revoked != self.revoked:
            return None
        gone, clear = set(self.inputs), set(self.clear)
        first = manifest.segments.index(min(self.inputs, key=manifest.segments.index))
        entries: list[SegmentEntry] = []
        for place, entry in enumerate(manifest.segments):
            if place == first and self.output is not None:
                entries.append(replace(self.output, covers_generation=self.generation))
            if entry in clear:
                entries.append(replace(entry, covers_generation=max(entry.covers_generation, self.generation)))
            elif entry not in gone:
                entries.append(entry)
        return tuple(entries)


def rewrite_segments(
    segments: Segments, kb_id: str, inputs: Sequence[SegmentEntry], burials: Burials, *, signature: str, language: str
) -> SegmentEntry | None:
    """Write the visible chunks of the inputs, in their order, as one new segment; None when none is visible.

    Raises: MissingFile when an input is gone, so the row names a newer generation; CorruptFile; VolumeFull; VolumeUnavailable;
    VectorEngineUnavailable.
    """
    chunks: list[Chunk] = []
    vectors = np.empty((0, 0), np.float32)
    for entry in inputs:
        for found, rows in visible_rows(segments, kb_id, entry, burials):
            if not chunks:  # room for all at once, of which only what is filled takes memory: parts to be joined would take it twice
                vectors = np.empty((sum(one.chunk_count for one in inputs), rows.shape[1]), np.float32)
            vectors[len(chunks) : len(chunks) + len(found)] = rows
            chunks += found
    failpoint("merge.read")
    if not chunks:
        return None
    return segments.write(kb_id, chunks, vectors[: len(chunks)], signature=signature, language=language)


def visible_rows(segments: Segments, kb_id: str, entry: SegmentEntry, burials: Burials) -> Iterator[tuple[list[Chunk], Vectors]]:
    """The chunks of a segment that the burials leave visible with their vectors, some at a time.

    Raises: as `Segments.rows`.
    """
    for part in segments.rows(kb_id, entry):
        places = [place for place, chunk in enumerate(part.chunks) if not burials.hide(chunk, entry.covers_generation)]
        if places:
            yield [part.chunks[place] for place in places], part.vectors[places]
