"""Knowledge bases written by any release so far open in this one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from agenthub.rag.chunks import ChunkLines
from agenthub.rag.columns import Columns
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.references import FileRef, Pointer
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import CHUNKS, FILTERS, INDEX, KEYWORDS
from agenthub.rag.tombstones import Tombstone
from tests.rag.golden import FIRST, KB, SECOND, answers
from tests.rag.samples import ENGLISH, new_engine

GOLDEN = Path(__file__).parents[1] / "data" / "rag"


@pytest.fixture(params=sorted(path.name for path in GOLDEN.glob("format-*")))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden directory."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


def row_of(folder: Path) -> Any:
    return orjson.loads((folder / "row.json").read_bytes())


def segments(folder: Path) -> list[Path]:
    """The segments' folders in the order of their manifest."""
    manifest = orjson.loads((folder / "volume" / KB / row_of(folder)["pointer"]["name"]).read_bytes())
    return [folder / "volume" / KB / "segments" / entry["id"] for entry in manifest["segments"]]


def test_a_golden_directory_is_whole_and_answers_as_it_did(folder: Path) -> None:
    row = row_of(folder)
    engine, pointer = new_engine(folder / "volume"), Pointer(**row["pointer"])
    assert engine.verify(KB, pointer) == []
    found = answers(engine, pointer, [Tombstone(**one) for one in row["tombstones"]])
    for hits, expected in zip(found, row["answers"], strict=True):
        assert [name for name, _ in hits] == [name for name, _ in expected]
        assert [score for _, score in hits] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert engine.read_original(KB, FileRef(**row["original"])).startswith(b"The lighthouse keeper")


def test_a_golden_directory_holds_the_chunks_it_was_made_of(folder: Path) -> None:
    row = row_of(folder)
    searcher = new_engine(folder / "volume").searcher(KB, Pointer(**row["pointer"]), [Tombstone(**one) for one in row["tombstones"]])
    expected = {chunk.id: chunk for chunk in [*FIRST, *SECOND]}
    assert searcher.find_chunks(list(expected)) == expected


def test_a_golden_directory_answers_without_its_derived_files(folder: Path) -> None:
    for path in segments(folder):
        for name in (INDEX, KEYWORDS, FILTERS):
            (path / name).unlink()
    row = row_of(folder)
    found = answers(new_engine(folder / "volume"), Pointer(**row["pointer"]), [Tombstone(**one) for one in row["tombstones"]])
    assert [[name for name, _ in hits] for hits in found] == [[name for name, _ in hits] for hits in row["answers"]]


@pytest.mark.parametrize(
    ("text", "found"),
    [('"the lighthouse"', {"01a", "01b"}), ('"passed the reef" -"in safety"', {"01b"}), ("harb* 灯*", {"02a"}), ('"台の光"', {"02a"})],
)
def test_phrases_and_beginnings_are_found_in_every_format(folder: Path, text: str, found: set[str]) -> None:
    """Files of formats 1 and 2 don't know the order of texts: their indexes are made again."""
    row = row_of(folder)
    searcher = new_engine(folder / "volume").searcher(KB, Pointer(**row["pointer"]), [Tombstone(**one) for one in row["tombstones"]])
    hits = searcher.search([SearchRequest(text, None, "keyword", 100)])[0]
    assert {hit.id for hit in hits} == found
    if folder.name != "format-1":  # which lacks the large segment
        assert len(searcher.search([SearchRequest('"buoy 3 seen" entry', None, "keyword", 100)])[0]) == 100


def test_the_present_code_derives_the_very_bytes_of_format_3() -> None:
    """A change of these bytes is a change of the format: it needs a number and a golden directory of its own."""
    for path in segments(GOLDEN / "format-3"):
        data = np.frombuffer((path / CHUNKS).read_bytes(), dtype=np.uint8)
        lines = ChunkLines(data, int(np.count_nonzero(data == 10)))
        assert Columns.of(lines.chunks()).encode() == (path / FILTERS).read_bytes()
        assert KeywordIndex.of((chunk.text for chunk in lines.chunks()), ENGLISH).encode() == (path / KEYWORDS).read_bytes()
