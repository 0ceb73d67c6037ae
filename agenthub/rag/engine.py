"""The knowledge engine: writes segments and manifests, opens searchers. Which manifest is current is the repository's matter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agenthub.core.failpoints import failpoint
from agenthub.core.ids import random_name
from agenthub.core.observe import Observer, Unobserved
from agenthub.rag.configuration import RagSettings
from agenthub.rag.contract import Segments
from agenthub.rag.joining import Joining
from agenthub.rag.kept import Kept
from agenthub.rag.manifest import Manifest
from agenthub.rag.on_volume import VolumeSegments
from agenthub.rag.opened import OpenSegment
from agenthub.rag.references import FileRef, Pointer
from agenthub.rag.searcher import Searcher
from agenthub.rag.segment import Chunk, SegmentEntry
from agenthub.rag.superseded import SearcherKey, Superseded
from agenthub.rag.tombstones import Graveyard, Tombstone
from agenthub.rag.verifying import check_manifest
from agenthub.rag.views import SegmentView
from agenthub.rag.volume import Volume

__all__ = ["KnowledgeEngine", "Tombstone"]

Tombstones = Sequence[Tombstone] | Callable[[], Sequence[Tombstone]]
_TURNS: Final = 64
"""Knowledge bases share this many queues."""


class KnowledgeEngine:
    """All knowledge bases. Touches nothing until used, so it may be made before a fork; safe to share between threads.

    Manifests and uploaded files are on the volume. `segments` says where chunks and vectors are: on the volume too if not told.
    """

    def __init__(self, volume: Volume, settings: RagSettings, observer: Observer | None = None, segments: Segments | None = None) -> None:
        self.volume = volume
        self.segments: Segments = segments or VolumeSegments(volume, settings)
        self._settings = settings
        self.observer: Observer = observer or Unobserved()
        self._manifests: Kept[str, Manifest] = Kept(settings.manifest_cache_count, lambda _: 1)
        self._opened: Kept[str, OpenSegment] = Kept(settings.segment_cache_bytes, lambda one: one.size_bytes, self._segment_dropped)
        self._joining = Joining()
        self._turns = tuple(threading.Lock() for _ in range(_TURNS))
        self._searchers: Kept[SearcherKey, Searcher] = Kept(settings.searcher_cache_count, lambda _: 1)
        self._superseded = Superseded()

    # -- writing

    @contextmanager
    def turn(self, kb_id: str) -> Iterator[None]:
        """One commit of a knowledge base at a time in this process, as far as waiting a bounded time gets it.

        Threads that would only lose races against one another queue instead; what keeps commits apart is the compare-and-set.
        """
        seconds = self._settings.turn_seconds
        lock = self._turns[hash(kb_id) % len(self._turns)]
        mine = seconds > 0 and lock.acquire(timeout=seconds)
        try:
            yield
        finally:
            if mine:
                lock.release()

    def write_segment(
        self, kb_id: str, chunks: Sequence[Chunk], vectors: NDArray[np.float32], *, signature: str, language: str
    ) -> SegmentEntry:
        """Write a new segment, durable when this returns and unseen until a committed manifest lists it.

        Raises: as `Segments.write`.
        """
        return self.segments.write(kb_id, chunks, vectors, signature=signature, language=language)

    def discard_segment(self, kb_id: str, entry: SegmentEntry) -> None:
        """Remove a segment that was never published, as far as possible."""
        self.segments.discard(kb_id, entry)

    def put_manifest(self, kb_id: str, manifest: Manifest) -> Pointer:
        """Write a manifest under a new name; the pointer is what the row has to say to make it current.

        Raises: VolumeFull; VolumeUnavailable.
        """
        failpoint("manifest.put")
        name = f"manifests/{manifest.generation}-{random_name()}.json"
        ref = self.volume.put_new(kb_id, name, manifest.encode())
        return Pointer(manifest.generation, manifest.epoch, ref.name, ref.sha256, ref.length_bytes)

    def discard_manifest(self, kb_id: str, pointer: Pointer) -> None:
        """Remove a manifest that no row came to name, as far as possible."""
        self.volume.discard(kb_id, [pointer.file])

    def put_original(self, kb_id: str, data: bytes) -> FileRef:
        """Keep an uploaded document's bytes.

        Raises: VolumeFull; VolumeUnavailable.
        """
        return self.volume.put_new(kb_id, f"originals/{random_name()}", data)

    # -- reading

    def read_original(self, kb_id: str, ref: FileRef) -> bytes:
        """An uploaded document's bytes, as they came.

        Raises: MissingFile; CorruptFile; VolumeUnavailable.
        """
        return self.volume.read(kb_id, ref)

    def read_manifest(self, kb_id: str, pointer: Pointer) -> Manifest:
        """The manifest the pointer names, at the pointer's generation and epoch, so that its successor follows the row.

        Raises: MissingFile; CorruptFile when it isn't the one that was written; VolumeUnavailable.
        """
        manifest = self._manifests.get(f"{kb_id}/{pointer.sha256}", lambda: self._read_manifest(kb_id, pointer))
        return replace(manifest, generation=pointer.generation, epoch=pointer.epoch)

    def searcher(self, kb_id: str, pointer: Pointer, tombstones: Tombstones) -> Searcher:
        """The searcher of this generation, kept for the next caller. `tombstones`, those of exactly this generation, may be
        a function that is asked only when the searcher has to be made.

        Raises: MissingFile when a file is gone, then the row may name a newer generation; CorruptFile; VolumeUnavailable;
        ModelMismatch.
        """
        if self._superseded.due():
            self._let_go()
        key = (kb_id, pointer.epoch, pointer.generation, pointer.sha256)
        return self._searchers.get(key, lambda: self._make_searcher(kb_id, pointer, tombstones))

    def searcher_over(self, manifest: Manifest, tombstones: Sequence[Tombstone]) -> Searcher:
        """A searcher over a manifest that is nowhere on the volume: the shadow of a generation in another model. It isn't kept.

        Raises: as `searcher`.
        """
        return Searcher(manifest.generation, self._views(manifest, tombstones), self.segments, self.observer, self._joining)

    def verify(self, kb_id: str, pointer: Pointer) -> list[str]:
        """What is wrong with this generation's files, read anew in full; empty when nothing is."""
        manifest, found = check_manifest(self.volume, kb_id, pointer)
        if manifest is not None:
            found += [one for entry in manifest.segments for one in self.segments.check(kb_id, entry, manifest.signature)]
        return [str(one) for one in found]

    def forget_segments(self, kb_id: str, segment_ids: Collection[str]) -> None:
        """Let go of these segments, and of the searchers that use them, in this process."""
        doomed = {key for key in self._opened.present() if key.split("/")[0] == kb_id and key.split("/")[1] in segment_ids}
        self._searchers.forget(lambda _, searcher: not doomed.isdisjoint(searcher.segment_keys))
        self._joining.forget(doomed)
        self._opened.forget(lambda key, _: key in doomed)

    def close(self) -> None:
        """Let go of everything that was opened. The engine can go on being used."""
        self._searchers.forget(lambda *_: True)
        self._joining.close()
        self._opened.forget(lambda *_: True)
        self._manifests.forget(lambda *_: True)
        self.segments.close()

    def _read_manifest(self, kb_id: str, pointer: Pointer) -> Manifest:
        return Manifest.decode(self.volume.read(kb_id, pointer.file), kb_id, pointer)

    def _make_searcher(self, kb_id: str, pointer: Pointer, tombstones: Tombstones) -> Searcher:
        started = time.perf_counter()
        manifest = self.read_manifest(kb_id, pointer)
        views = self._views(manifest, tombstones() if callable(tombstones) else tombstones)
        self._forget_older(kb_id, pointer)
        self.observer.time("vector_search", time.perf_counter() - started, phase="open")
        return Searcher(pointer.generation, views, self.segments, self.observer, self._joining)

    def _views(self, manifest: Manifest, tombstones: Sequence[Tombstone]) -> list[SegmentView]:
        graveyard = Graveyard(manifest.in_force(tombstones))
        views: list[SegmentView] = []
        for entry in manifest.segments:
            start = views[-1].start + views[-1].segment.count if views else 0
            key = f"{manifest.kb_id}/{entry.id}/{entry.header.sha256}"
            segment = self._opened.get(key, partial(self.segments.open, manifest.kb_id, entry, manifest.signature, self.observer))
            views.append(SegmentView.of(key, segment, start, graveyard.visible(segment, entry.covers_generation)))
        return views

    def _forget_older(self, kb_id: str, pointer: Pointer) -> None:
        """Beside the new generation keep one older searcher for a while: requests under way may still ask for that."""
        older = sorted(key for key in self._searchers.present() if key[0] == kb_id and key[1:3] < (pointer.epoch, pointer.generation))

        def unneeded(key: SearcherKey, searcher: Searcher) -> bool:
            if key in older:
                self._superseded.add(key, searcher.segment_keys)
            return key in older[:-1]

        self._searchers.forget(unneeded)

    def _let_go(self) -> None:
        """Drop the searchers that were replaced a while ago, and the segments nobody else uses: what merging left behind, mostly."""
        leaving, segments = self._superseded.take()
        used: set[str] = set()

        def leaves(key: SearcherKey, searcher: Searcher) -> bool:
            if key not in leaving:
                used.update(searcher.segment_keys)
            return key in leaving

        self._searchers.forget(leaves)
        unused = segments - used
        self._joining.forget(unused)
        self._opened.forget(lambda key, _: key in unused)

    def _segment_dropped(self, key: str) -> None:
        self._searchers.forget(lambda _, searcher: key in searcher.segment_keys)
