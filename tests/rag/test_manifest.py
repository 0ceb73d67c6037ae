from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from agenthub.core.errors import CorruptFile
from agenthub.rag.manifest import Manifest
from agenthub.rag.references import FileRef, Pointer
from agenthub.rag.segment import SegmentEntry
from tests.rag.samples import NOW, SIGNATURE, Base, new_engine

ENTRY = SegmentEntry("s" * 26, FileRef("segments/" + "s" * 26 + "/segment.json", 100, "a" * 64), 7, 5000, 0)
EMPTY = Manifest.empty("k" * 26, SIGNATURE, "op1", NOW)


def pointer_to(manifest: Manifest, **changes: Any) -> Pointer:
    return replace(Pointer(manifest.generation, manifest.epoch, "manifests/x", "b" * 64, 10), **changes)


def test_a_successor_adds_entries_that_cover_its_own_generation() -> None:
    first = EMPTY.successor(added=[ENTRY], operation_id="op2", now=NOW)
    second = replace(first, sha256="c" * 64).successor(added=[replace(ENTRY, id="t" * 26)], operation_id="op3", now=NOW, generation=9)
    assert [entry.covers_generation for entry in second.segments] == [2, 9]
    assert (first.generation, second.generation, second.parent_sha256) == (2, 9, "c" * 64)
    assert (second.kb_id, second.signature, second.operation_id) == ("k" * 26, SIGNATURE, "op3")


def test_a_successor_never_goes_back() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        EMPTY.successor(operation_id="o", now=NOW, generation=1)


def test_the_file_gives_the_manifest_back() -> None:
    manifest = EMPTY.successor(added=[ENTRY], operation_id="op2", now=NOW)
    assert Manifest.decode(manifest.encode(), "k" * 26, pointer_to(manifest)) == replace(manifest, sha256="b" * 64)
    assert manifest.created_at == "2026-11-23T12:00:00Z"


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": "1"},
        {"format": None},
        {"kb_id": "x" * 26},
        {"generation": 3},
        {"generation": -1},
        {"generation": True},
        {"epoch": 1},
        {"segments": {}},
        {"segments": [1]},
        {"segments": [{"id": "s"}]},
        {"signature": 5},
        {"created_at": None},
    ],
)
def test_other_contents_are_refused(changes: dict[str, Any]) -> None:
    manifest = EMPTY.successor(added=[ENTRY], operation_id="op2", now=NOW)
    fields = orjson.loads(manifest.encode()) | changes
    with pytest.raises(CorruptFile):
        Manifest.decode(orjson.dumps(fields), "k" * 26, pointer_to(manifest))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile):
        Manifest.decode(data, "k" * 26, pointer_to(EMPTY))


def test_a_manifest_is_read_at_its_pointers_generation(tmp_path: Path) -> None:
    """Deletes move the row without a manifest; what is added afterwards must cover them."""
    base = Base(new_engine(tmp_path)).create()
    later = replace(base.pointer, generation=5, epoch=2)
    read = base.engine.read_manifest(base.id, later)
    assert (read.generation, read.epoch, read.sha256) == (5, 2, base.pointer.sha256)
    assert read.successor(added=[ENTRY], operation_id="o", now=NOW).segments[0].covers_generation == 6
    assert base.engine.read_manifest(base.id, base.pointer).generation == 1
