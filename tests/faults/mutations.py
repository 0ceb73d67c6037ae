"""T8: damages files of knowledge bases in every way and checks that nothing wrong is ever answered.

Usage: `python -m tests.faults.mutations COUNT SEED FOLDER`. After each damage a process that has nothing in memory opens the
knowledge base: its answer must be the right one or a clear refusal, and verifying must find the damage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agenthub.core.errors import ModelMismatch, VolumeUnavailable
from agenthub.rag.configuration import RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.references import Pointer
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import FILES, HEADER
from agenthub.rag.tombstones import Tombstone
from agenthub.rag.volume import Volume
from tests.faults.figures import Figures
from tests.rag.samples import Base, chunks, new_engine, vectors

REQUESTS = [SearchRequest("river forest meadow", vectors(1, 50)[0], mode, 100) for mode in ("semantic", "keyword", "hybrid")]
Answer = list[list[tuple[str, str, float]]]
Random = np.random.Generator


@dataclass(frozen=True)
class Committed:
    """One generation of one knowledge base, and what searches in it answer."""

    base_id: str
    pointer: Pointer
    tombstones: tuple[Tombstone, ...]
    answer: Answer
    paths: tuple[Path, ...]


def answer(engine: KnowledgeEngine, base_id: str, pointer: Pointer, tombstones: tuple[Tombstone, ...]) -> Answer:
    found = engine.searcher(base_id, pointer, tombstones).search(REQUESTS)
    return [[(hit.id, hit.text, round(hit.score, 5)) for hit in hits] for hits in found]


def commit(base: Base) -> Committed:
    engine, folder = base.engine, base.engine.volume.root / base.id
    entries = engine.read_manifest(base.id, base.pointer).segments
    paths = [folder / base.pointer.name]
    paths += [folder / "segments" / entry.id / name for entry in entries for name in (HEADER, *FILES)]
    tombstones = tuple(base.tombstones)
    return Committed(base.id, base.pointer, tombstones, answer(engine, base.id, base.pointer, tombstones), tuple(paths))


def build(root: Path) -> list[Committed]:
    """Three knowledge bases of several generations each, the texts of each its own."""
    engine, made = new_engine(root), []
    for number, prefix in enumerate(("a", "b", "c")):
        base = Base(engine).create()
        for step in range(3):
            base.append(chunks(20, f"{prefix}{step}-", seed=number * 10 + step), vectors(20, number * 10 + step))
            base.delete(chunk=f"{prefix}{step}-4")
            made.append(commit(base))
    return made


# --- ways to damage a file: its bytes, and those of another file of the same name ---


def _flip(random: Random, data: bytes, _: bytes) -> bytes:
    position = int(random.integers(len(data) * 8))
    return data[: position // 8] + bytes([data[position // 8] ^ 1 << position % 8]) + data[position // 8 + 1 :]


def _flips(random: Random, data: bytes, other: bytes) -> bytes:
    for _ in range(int(random.integers(2, 40))):
        data = _flip(random, data, other)
    return data


def _truncate(random: Random, data: bytes, _: bytes) -> bytes:
    return data[: int(random.integers(len(data)))]


def _lengthen(random: Random, data: bytes, _: bytes) -> bytes:
    return data + random.bytes(int(random.integers(1, 5000)))


def _hole(random: Random, data: bytes, _: bytes) -> bytes:
    start = int(random.integers(len(data)))
    end = min(len(data), start + int(random.integers(1, 4097)))
    return data[:start] + bytes(end - start) + data[end:]


def _foreign(random: Random, data: bytes, _: bytes) -> bytes:
    made = (random.bytes(len(data)), b"\x80\x04\x95pickle", b"{}", b"IxFI" + bytes(64), b"PK\x03\x04" + data[:100], b"")
    return made[int(random.integers(len(made)))]


def _swap(_: Random, data: bytes, other: bytes) -> bytes:
    return other


DAMAGES: dict[str, Callable[[Random, bytes, bytes], bytes]] = {
    "flip": _flip,
    "flips": _flips,
    "truncate": _truncate,
    "lengthen": _lengthen,
    "hole": _hole,
    "foreign": _foreign,
    "swap": _swap,
}


def other_file(random: Random, path: Path, everything: list[Path]) -> Path:
    """Another file of the same kind: of another segment, generation or knowledge base."""
    same = [one for one in everything if one != path and one.name.partition("-")[0].isdigit() == path.name.partition("-")[0].isdigit()]
    alike = [one for one in same if one.name == path.name] or same
    return alike[int(random.integers(len(alike)))]


def look(figures: Figures, root: Path, target: Committed, what: str, number: int) -> None:
    """A process that starts now answers rightly or refuses; verifying sees the damage."""
    engine = KnowledgeEngine(Volume(root, mapping="always" if number % 2 else "never"), RagSettings())
    figures.operations += 2
    try:
        right = answer(engine, target.base_id, target.pointer, target.tombstones) == target.answer
        figures.counts["answered rightly"] += right
        figures.expect(right, f"{what}: a wrong answer")
    except (VolumeUnavailable, ModelMismatch):
        figures.counts["refused"] += 1
    detected = bool(engine.verify(target.base_id, target.pointer))
    figures.counts["detected"] += detected
    figures.expect(detected, f"{what}: not detected")


def main(count: int, seed: int, root: Path) -> int:
    figures, random = Figures("T8 mutated files", seed), np.random.default_rng(seed)
    made = build(root)
    everything = sorted({path for one in made for path in one.paths})
    names = list(DAMAGES)
    while figures.injections < count:
        target = made[int(random.integers(len(made)))]
        path = target.paths[int(random.integers(len(target.paths)))]
        name = names[int(random.integers(len(names)))]
        good = path.read_bytes()
        bad = DAMAGES[name](random, good, other_file(random, path, everything).read_bytes())
        if bad == good:
            continue
        figures.injections += 1
        figures.counts[name] += 1
        path.write_bytes(bad)
        look(figures, root, target, f"{number_of(figures)} {name} {path.name}", figures.injections)
        path.unlink()
        path.write_bytes(good)
    figures.expect(all(not new_engine(root).verify(one.base_id, one.pointer) for one in made), "the harness left damage")
    return figures.finish()


def number_of(figures: Figures) -> str:
    return f"#{figures.injections}"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
