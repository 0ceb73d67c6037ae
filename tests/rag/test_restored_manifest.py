"""Manifests that take deletes back: which tombstones are in force, and what such a file may say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from agenthub.core.errors import CorruptFile
from agenthub.rag.manifest import Manifest, SegmentEntry, Span
from agenthub.rag.references import FileRef, Pointer, Tombstone

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KB = "0" * 26
TOMBSTONES = [Tombstone("chunk", "a", generation) for generation in range(1, 12)]


def manifest(*entries: str) -> Manifest:
    segments = tuple(SegmentEntry(name, FileRef(f"segments/{name}/segment.json", 1, "0" * 64), 1, 1, 1) for name in entries)
    return Manifest(KB, 1, 0, "s", "", "op", "2026-01-01T00:00:00Z", segments)


def at(found: Manifest, generation: int) -> Manifest:
    return found.successor(generation=generation, operation_id="op", now=NOW)


def decoded(found: Manifest, change: Any = None) -> Manifest:
    fields = json.loads(found.encode())
    if change:
        change(fields)
    return Manifest.decode(json.dumps(fields).encode(), KB, Pointer(found.generation, 0, "m", "f" * 64, 1))


def in_force(found: Manifest) -> list[int]:
    return [one.generation for one in found.in_force(TOMBSTONES)]


def test_a_restore_lists_the_old_segments_and_revokes_what_came_after() -> None:
    old, now = at(manifest("a" * 26), 3), at(manifest("b" * 26), 6)
    restored = at(now.restoring(old), 7)
    assert [entry.id for entry in restored.segments] == ["a" * 26]
    assert restored.segments[0] != old.segments[0], "what was made of the entry before must not take its place"
    assert restored.segments[0].covers_generation == old.segments[0].covers_generation
    assert in_force(restored) == [1, 2, 3, 7, 8, 9, 10, 11]
    assert (json.loads(restored.encode())["format"], json.loads(now.encode())["format"]) == (2, 1)


def test_restores_of_restores_keep_what_those_revoked() -> None:
    first = at(at(manifest(), 5).restoring(at(manifest(), 3)), 6)  # revokes 4, 5
    second = at(at(manifest(), 9).restoring(first), 10)  # as of 6: revokes 4, 5 and 7 to 9
    assert second.revoked == (Span(4, 5), Span(7, 9))
    third = at(second.restoring(at(manifest(), 2)), 11)  # back to 2: everything after it
    assert third.revoked == (Span(3, 10),)
    assert at(first.restoring(first), 7).revoked == first.revoked
    assert decoded(second).revoked == second.revoked


@pytest.mark.parametrize(
    "revoked", [[{"first": 5, "last": 4}], [{"first": 4, "last": 5}, {"first": 5, "last": 6}], [{"first": -1, "last": 2}], "all", [4]]
)
def test_what_makes_no_sense_is_refused(revoked: Any) -> None:
    restored = at(at(manifest("a" * 26), 6).restoring(at(manifest("a" * 26), 3)), 7)
    assert decoded(restored).segments == restored.segments
    with pytest.raises(CorruptFile):
        decoded(restored, lambda fields: fields.update(revoked=revoked))
    with pytest.raises(CorruptFile):
        decoded(restored, lambda fields: fields.update(format=3))
