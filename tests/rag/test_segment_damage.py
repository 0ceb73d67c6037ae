"""Every kind of file, damaged in every way: the truth is refused, what can be derived is derived again, nothing else is answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agenthub.core.errors import CorruptFile, MissingFile, ModelMismatch
from agenthub.rag.filters import parse_filter
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import CHUNKS, FILES, FILTERS, HEADER, INDEX, KEYWORDS, VECTORS
from tests.rag.samples import NOW, SIGNATURE, Base, Counting, chunks, new_engine, vectors

FILTER = parse_filter({"field": "n", "op": "gte", "value": 3})
REQUESTS = [SearchRequest("river forest meadow", vectors(1, 50)[0], mode, 20, FILTER) for mode in ("semantic", "keyword", "hybrid")]
MANIFEST = "manifest"
DERIVED = (INDEX, KEYWORDS, FILTERS)


def _flip(data: bytes, other: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 16
    return bytes(damaged)


DAMAGE: dict[str, Callable[[bytes, bytes], bytes]] = {
    "empty": lambda data, other: b"",
    "half": lambda data, other: data[: len(data) // 2],
    "longer": lambda data, other: data + b"\n",
    "flip": _flip,
    "first byte": lambda data, other: bytes([data[0] ^ 1]) + data[1:],
    "last byte": lambda data, other: data[:-1] + bytes([data[-1] ^ 128]),
    "zeros": lambda data, other: bytes(len(data)),
    "swapped": lambda data, other: other,
}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    made = Base(new_engine(tmp_path / "volume")).create()
    made.append(chunks(30), vectors(30, 1))
    made.delete(chunk="c7")
    return made


def path_of(base: Base, name: str, entry: int = 0) -> Path:
    folder = base.engine.volume.root / base.id
    if name == MANIFEST:
        return folder / base.pointer.name
    return folder / "segments" / base.engine.read_manifest(base.id, base.pointer).segments[entry].id / name


def found(base: Base, observer: Counting | None = None) -> list[list[tuple[str, float]]]:
    """What a fresh process answers."""
    engine = new_engine(base.engine.volume.root, observer=observer)
    return [[(hit.id, round(hit.score, 5)) for hit in hits] for hits in base.searcher(engine).search(REQUESTS)]


@pytest.mark.parametrize("name", [MANIFEST, HEADER, *FILES])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_detected_and_repaired_or_refused(base: Base, tmp_path: Path, name: str, damage: str) -> None:
    expected = found(base)
    other = Base(new_engine(tmp_path / "other")).create()
    other.append(chunks(30, "x", seed=9), vectors(30, 9))
    path = path_of(base, name)
    path.write_bytes(DAMAGE[damage](path.read_bytes(), path_of(other, name).read_bytes()))
    observer = Counting()
    if name in DERIVED:
        assert found(base, observer) == expected
        assert observer.counted == {("rag_rebuilt_files", name): 1}
    elif name == VECTORS:
        assert found(base) == expected
    else:
        with pytest.raises(CorruptFile):
            found(base)
    assert base.engine.verify(base.id, base.pointer) != []


def test_many_bit_flips_are_all_seen_by_verify(base: Base) -> None:
    random = np.random.default_rng(0)
    assert base.engine.verify(base.id, base.pointer) == []
    for name in (MANIFEST, HEADER, *FILES):
        path = path_of(base, name)
        good = path.read_bytes()
        for position in random.integers(len(good) * 8, size=30):
            bad = bytearray(good)
            bad[position // 8] ^= 1 << (position % 8)
            path.write_bytes(bad)
            assert base.engine.verify(base.id, base.pointer), (name, position)
        path.write_bytes(good)
    assert base.engine.verify(base.id, base.pointer) == []


@pytest.mark.parametrize("name", [MANIFEST, HEADER, CHUNKS])
def test_a_missing_truth_is_missing(base: Base, name: str) -> None:
    path_of(base, name).unlink()
    with pytest.raises(MissingFile):
        found(base)


@pytest.mark.parametrize("name", DERIVED)
def test_a_missing_derived_file_is_made_again(base: Base, name: str) -> None:
    expected = found(base)
    path_of(base, name).unlink()
    assert found(base) == expected


def test_an_index_and_its_vectors_both_damaged_are_refused(base: Base) -> None:
    for name in (INDEX, VECTORS):
        path_of(base, name).write_bytes(b"x")
    with pytest.raises(CorruptFile):
        found(base)


def test_another_generations_file_is_not_taken(base: Base) -> None:
    base.append(chunks(30, "d", seed=4), vectors(30, 4))
    for name in (HEADER, CHUNKS):
        path, other = path_of(base, name, 0), path_of(base, name, 1)
        good = path.read_bytes()
        path.write_bytes(other.read_bytes())
        with pytest.raises(CorruptFile):
            found(base)
        path.write_bytes(good)


def test_another_knowledge_bases_manifest_is_not_taken(base: Base, tmp_path: Path) -> None:
    """Not even with the right hash: the manifest names its knowledge base."""
    other = Base(base.engine).create()
    other.append(chunks(3, "secret"), vectors(3, 5))
    (base.engine.volume.root / base.id / other.pointer.name).write_bytes(
        (base.engine.volume.root / other.id / other.pointer.name).read_bytes()
    )
    with pytest.raises(CorruptFile):
        new_engine(base.engine.volume.root).searcher(base.id, other.pointer, [])


def test_another_models_segment_is_not_searched(base: Base) -> None:
    entry = base.engine.write_segment(base.id, chunks(2, "m"), vectors(2, 3), signature="another model", language="english")
    manifest = base.engine.read_manifest(base.id, base.pointer).successor(added=[entry], operation_id="o", now=NOW)
    pointer = base.engine.put_manifest(base.id, manifest)
    assert SIGNATURE in manifest.signature
    with pytest.raises(ModelMismatch):
        base.engine.searcher(base.id, pointer, [])
    assert base.engine.verify(base.id, pointer)
