"""What is Milvus' own: rows that are damaged, gone or elsewhere, long lines, short answers, and a server that is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pymilvus import MilvusException

from agenthub.core import failpoints
from agenthub.core.errors import CorruptFile, MissingFile, VectorEngineUnavailable, VolumeFull, WrongVectorEngine
from agenthub.rag.configuration import MilvusSettings, RagSettings
from agenthub.rag.engine import KnowledgeEngine
from agenthub.rag.filters import parse_filter
from agenthub.rag.milvus import nearest, rows
from agenthub.rag.milvus.segments import MilvusSegments
from agenthub.rag.milvus.server import MilvusServer
from agenthub.rag.references import FileRef
from agenthub.rag.searcher import SearchRequest
from agenthub.rag.segment import CHUNKS, FILTERS, KEYWORDS, Chunk, SegmentEntry, SegmentHeader, file_of
from agenthub.rag.volume import Volume
from tests.rag.samples import DIMENSION, Base, chunks, cosines, milvus_engine, milvus_file, new_engine, vectors


@pytest.fixture
def base(tmp_path: Path) -> Base:
    made = Base(milvus_engine(tmp_path)).create()
    made.append(chunks(30), vectors(30, 1))
    return made


@pytest.fixture
def armed() -> Iterator[Callable[[str], None]]:
    yield failpoints.arm
    failpoints.arm("")


def server(base: Base) -> MilvusServer:
    assert isinstance(base.engine.segments, MilvusSegments)
    return base.engine.segments._server


def held(base: Base, expression: str = "row >= 0") -> int:
    """How many rows of the knowledge base are in Milvus."""
    return server(base).count(f"agenthub_{DIMENSION}", f'kb == "{base.id}" and {expression}', 0)


def entry(base: Base) -> Any:
    return base.engine.read_manifest(base.id, base.pointer).segments[0]


def search(base: Base, tree: dict[str, Any] | None = None, count: int = 10) -> list[str]:
    base.engine.close()
    wanted = SearchRequest(None, vectors(1, 9)[0], "semantic", count, None if tree is None else parse_filter(tree))
    return [hit.id for hit in base.searcher().search([wanted])[0]]


def best(base: Base, count: int, matches: Callable[[Chunk], bool] = lambda _: True) -> list[str]:
    pairs = [pair for pair in base.visible.values() if matches(pair[0])]
    scored = zip(cosines([row for _, row in pairs], vectors(1, 9)[0]), [chunk.id for chunk, _ in pairs], strict=True)
    return [name for _, name in sorted(scored, reverse=True)[:count]]


# -- what is kept


def test_rows_come_back_as_they_were_written(base: Base) -> None:
    parts = list(base.engine.segments.rows(base.id, entry(base)))
    assert [chunk for part in parts for chunk in part.chunks] == chunks(30)
    units = vectors(30, 1) / np.linalg.norm(vectors(30, 1).astype(np.float64), axis=1)[:, None]
    assert np.array_equal(np.concatenate([part.vectors for part in parts]), units.astype(np.float32))
    assert base.engine.verify(base.id, base.pointer) == []
    names = {name.rpartition("/")[2] for name in base.engine.volume.files(base.id) if name.startswith("segments/")}
    assert names == {"segment.json", KEYWORDS, FILTERS}
    assert entry(base).size_bytes > 30 * DIMENSION * 4


def test_a_segment_of_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_PART_ROWS", 7)
    base = Base(milvus_engine(tmp_path)).create()
    base.append(chunks(30), vectors(30, 1))
    assert [part.first for part in base.engine.segments.rows(base.id, entry(base))] == [0, 7, 14, 21, 28]
    assert base.engine.verify(base.id, base.pointer) == []


def test_lines_that_no_column_holds_are_on_the_volume(tmp_path: Path) -> None:
    base = Base(milvus_engine(tmp_path)).create()
    texts = ["short", "ü" * 40_000, "also short", "x" * 70_000]
    base.append([Chunk(f"c{n}", "doc", text, {}) for n, text in enumerate(texts)], vectors(4, 1))
    assert [base.searcher().find_chunks([f"c{n}"])[f"c{n}"].text for n in range(4)] == texts
    assert [chunk.text for chunk in base.engine.segments.chunks(base.id, entry(base))] == texts
    assert base.engine.verify(base.id, base.pointer) == []
    assert file_of(entry(base).id, CHUNKS) in base.engine.volume.files(base.id)
    assert base.engine.segments.mentions(base.id, entry(base).id, "doc")
    assert not base.engine.segments.mentions(base.id, entry(base).id, 'doc" or row >= 0 or document == "')


def test_removing_files_of_a_segment_removes_its_rows(base: Base) -> None:
    base.append(chunks(5, "d"), vectors(5, 2))
    first = entry(base).id
    names = [name for name in base.engine.volume.files(base.id) if first in name]
    assert base.engine.segments.remove(base.id, names) == 3
    assert held(base) == 5
    assert base.engine.segments.remove(base.id, names) == 0


def test_a_segment_nobody_saw_is_withdrawn(base: Base) -> None:
    made = base.engine.write_segment(base.id, chunks(4, "e"), vectors(4, 3), signature="test;dimension=8;metric=cosine", language="english")
    assert held(base) == 34
    base.engine.discard_segment(base.id, made)
    assert held(base) == 30
    assert not [name for name in base.engine.volume.files(base.id) if made.id in name]


def test_a_golden_header_is_read_and_written_as_ever() -> None:
    data = (Path(__file__).parents[2] / "data" / "rag" / "milvus-4" / "segment.json").read_bytes()
    name = "segments/0c9vd2m5k8e7r1t6y3w4x2z9ab/segment.json"
    header = SegmentHeader.decode(data, SegmentEntry("0c9vd2m5k8e7r1t6y3w4x2z9ab", FileRef(name, len(data), "0" * 64), 3, 0, 2))
    assert orjson.loads(header.encode()) == orjson.loads(data)
    assert header.elsewhere is not None
    assert (header.elsewhere.collection, header.elsewhere.written_at, header.elsewhere.long_rows) == (
        "agenthub_8",
        467523456789012345,
        (1,),
    )
    with pytest.raises(CorruptFile):
        SegmentHeader.decode(data.replace(b'"row_count": 2', b'"row_count": 3'), SegmentEntry(header.id, FileRef(name, 0, ""), 3, 0, 2))


# -- what goes wrong


@pytest.mark.parametrize("step", ["milvus.insert=error@1", "milvus.insert=error@3", "milvus.inserted=error"])
def test_a_write_that_failed_on_the_way_leaves_names_for_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, armed: Callable[[str], None], step: str
) -> None:
    monkeypatch.setattr(rows, "_PART_ROWS", 7)
    base = Base(milvus_engine(tmp_path)).create()
    armed(step)
    with pytest.raises(failpoints.Failpoint):
        base.append(chunks(30), vectors(30, 1))
    armed("")
    assert base.searcher().chunk_count == 0
    announced = [name for name in base.engine.volume.files(base.id) if name.startswith("segments/")]
    assert {name.rpartition("/")[2] for name in announced} == {KEYWORDS, FILTERS}
    base.engine.segments.remove(base.id, announced)
    assert held(base) == 0
    base.append(chunks(30), vectors(30, 1))
    assert len(search(base)) == 10


def test_a_full_volume_at_the_header_leaves_nothing(base: Base, armed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.engine.volume.files(base.id)

    def full(*_: Any) -> Any:
        raise VolumeFull("no space")

    monkeypatch.setattr("agenthub.rag.milvus.segments.put_header", full)
    with pytest.raises(VolumeFull):
        base.append(chunks(5, "d"), vectors(5, 2))
    assert (held(base), base.engine.volume.files(base.id)) == (30, before)


@pytest.mark.parametrize("loss", ["a row", "all rows", "another text", "another vector", "a row too many"])
def test_damaged_rows_are_named_and_never_answered(base: Base, loss: str) -> None:
    segment, collection = entry(base).id, f"agenthub_{DIMENSION}"
    only = f'kb == "{base.id}" and segment == "{segment}"'
    row = server(base).query(collection, f"{only} and row == 3", ["id", "kb", "segment", "row", "document", "line", "vector"], 0)[0]
    if loss != "a row too many":
        server(base).delete(collection, only if loss == "all rows" else f"{only} and row == 3")
    changed = {
        "another text": {**row, "line": row["line"].replace('"c3"', '"c4"')},
        "another vector": {**row, "vector": row["vector"][::-1]},
        "a row too many": {**row, "id": f"{segment}.30", "row": 30},
    }.get(loss)
    if changed:
        server(base).insert(collection, [changed])
    base.engine.close()
    assert any("rows in Milvus" in problem for problem in base.engine.verify(base.id, base.pointer))
    if loss == "a row too many":
        return
    with pytest.raises(MissingFile if loss == "all rows" else CorruptFile):
        list(base.engine.segments.rows(base.id, entry(base)))
    if loss != "another vector":
        with pytest.raises((MissingFile, CorruptFile)):
            base.searcher().search([SearchRequest(None, vectors(1, 9)[0], "semantic", 100)])


@pytest.mark.parametrize("name", [KEYWORDS, FILTERS])
def test_a_damaged_derived_file_is_made_again_from_the_rows(base: Base, tmp_path: Path, name: str) -> None:
    expected = search(base)
    path = tmp_path / base.id / "segments" / entry(base).id / name
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert any(name in problem for problem in base.engine.verify(base.id, base.pointer))
    assert search(base) == expected
    assert base.searcher().chunk_count == 30
    rewritten = base.engine.segments.rewritten(base.id, entry(base))
    assert base.engine.segments.check(base.id, rewritten, "test;dimension=8;metric=cosine") == []


def test_each_adapter_says_that_a_segment_is_the_others(base: Base, tmp_path: Path) -> None:
    volume = new_engine(tmp_path)
    with pytest.raises(WrongVectorEngine, match="VECTOR_STORE_URL"):
        base.searcher(volume)
    with pytest.raises(WrongVectorEngine, match="VECTOR_STORE_URL"):
        volume.verify(base.id, base.pointer)
    with pytest.raises(WrongVectorEngine, match="in Milvus"):
        volume.segments.remove(base.id, volume.volume.files(base.id))
    other = Base(volume).create()
    other.append(chunks(3), vectors(3, 1))
    for refused in (lambda: other.searcher(base.engine), lambda: base.engine.verify(other.id, other.pointer)):
        with pytest.raises(WrongVectorEngine, match="VECTOR_STORE_URL"):
            refused()


# -- short answers


def test_an_index_that_gives_up_is_made_up_for(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    base.delete(document="c-doc2")
    expected = best(base, 10)
    plain, asked = MilvusServer.search, []

    def short(self: MilvusServer, *arguments: Any) -> Any:
        asked.append(arguments)
        return [hits[: len(hits) // 2] for hits in plain(self, *arguments)]

    monkeypatch.setattr(MilvusServer, "search", short)
    assert search(base) == expected
    assert len(asked) >= 2


def test_what_a_filter_chooses_far_away_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chosen rows are the farthest of all: over-fetching never comes to them, listing them does."""
    monkeypatch.setattr(nearest, "MAX_HITS", 40)
    monkeypatch.setattr(nearest, "_LISTED_ROWS", 6)
    monkeypatch.setattr(nearest, "_GROWTH", 2)
    base = Base(milvus_engine(tmp_path, RagSettings(brute_force_fraction=0.01))).create()
    query = vectors(1, 9)[0]
    near = query + vectors(80, 3) * 0.1
    for part, (count, far) in enumerate([(80, False), (10, True), (7, True)]):
        made = [Chunk(f"p{part}-{n}", None, "x", {"far": far}) for n in range(count)]
        base.append(made, -vectors(count, part) * 0.1 - query if far else near)
    assert search(base, {"field": "far", "op": "eq", "value": True}, 12) == best(base, 12, lambda chunk: bool(chunk.metadata["far"]))
    assert len(search(base, {"field": "far", "op": "eq", "value": True}, 100)) == 17


def test_a_row_that_went_missing_under_a_search_is_not_passed_over(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = base.searcher()
    server(base).delete(f"agenthub_{DIMENSION}", f'kb == "{base.id}" and row > 20')
    with pytest.raises(MissingFile, match="not in Milvus"):
        searcher.search([SearchRequest(None, vectors(1, 9)[0], "semantic", 30)])


# -- a server


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_server_that_is_not_there_is_said_in_time_and_then_at_once(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    settings = MilvusSettings(f"http://127.0.0.1:{closed_port()}", timeout_seconds=1)
    base = Base(KnowledgeEngine(volume, RagSettings(), None, MilvusSegments(volume, RagSettings(), settings))).create()
    started = time.monotonic()
    with pytest.raises(VectorEngineUnavailable) as caught:
        base.append(chunks(3), vectors(3, 1))
    assert time.monotonic() - started < 60
    assert caught.value.retry_after_seconds
    assert volume.files(base.id) == [base.pointer.name]  # nothing was begun
    with pytest.raises(VectorEngineUnavailable):
        base.append(chunks(3), vectors(3, 1))
    with pytest.raises(VectorEngineUnavailable):
        base.engine.segments.self_test()
    assert base.searcher().chunk_count == 0  # reading what is empty asks nobody


def test_a_second_process_is_told_that_milvus_lite_is_the_firsts(base: Base) -> None:
    code = (
        "from agenthub.rag.configuration import MilvusSettings\n"
        "from agenthub.rag.milvus.server import MilvusServer\n"
        f"MilvusServer(MilvusSettings({milvus_file()!r})).version()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "VectorEngineUnavailable: Milvus does not answer: the file can't be opened; another process may have it" in ended.stderr


def test_a_server_that_refuses_is_asked_again(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server(base)._connected()

    def refuse(*_: Any, **__: Any) -> Any:
        raise MilvusException(message="quota exceeded\nand much more")

    with monkeypatch.context() as patched:
        patched.setattr(client, "search", refuse)
        with pytest.raises(VectorEngineUnavailable, match="quota exceeded") as caught:
            base.searcher().search([SearchRequest(None, vectors(1, 9)[0], "semantic", 3)])
    assert "much more" not in caught.value.message
    assert len(search(base)) == 10


def test_rows_that_a_repeated_request_inserted_twice_are_given_up(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MilvusServer.insert

    def twice(self: MilvusServer, collection: str, rows: Any) -> int:
        plain(self, collection, [{**row, "id": f"{row['id']}x"} for row in rows])
        return plain(self, collection, rows)

    with monkeypatch.context() as patched:
        patched.setattr(MilvusServer, "insert", twice)
        with pytest.raises(VectorEngineUnavailable, match="8 rows are in Milvus instead of 4"):
            base.append(chunks(4, "e"), vectors(4, 3))
    assert base.searcher().chunk_count == 30


def test_health_names_the_server_and_no_secret(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    settings = replace(MilvusSettings(milvus_file()), token="user:very secret")
    facts = MilvusSegments(volume, RagSettings(), settings).self_test()
    assert facts["engine"] == "milvus" and str(facts["version"])
    assert "secret" not in f"{facts}{settings}"
