"""Verifying names every damage, repairing makes again what can be made, and truth comes back only on the operator's word."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from agenthub.core.errors import NotRetained
from agenthub.core.types import EVERY_TENANT
from agenthub.rag.segment import CHUNKS, FILTERS, HEADER, INDEX, KEYWORDS, VECTORS
from agenthub.repositories.knowledge.inspecting import Budget, Inspected, Inspections
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase, KnowledgeBaseRepository
from agenthub.repositories.knowledge.leases import LEASES
from agenthub.repositories.knowledge.ledger import INTENTS
from agenthub.repositories.knowledge.repairing import Repairs
from agenthub.repositories.knowledge.segment_checks import SEGMENT_CHECKS, SegmentCheckRepository
from agenthub.repositories.tables import MOVED_TABLES, TABLES
from agenthub.storage.contract import ALL, DeleteWhere, Insert, Query, Row, Storage
from agenthub.storage.migrating import migrate
from tests.api import Api, make_app
from tests.contracts.storage.conftest import opened

QUIET = {"AGENTHUB_SERVICES": "knowledge.*,platform.*", "AGENTHUB_MAINTENANCE": "off", "AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A knowledge base with three documents, one of them deleted, as it was made over HTTP in memory: its rows and its volume."""

    folder: Path
    rows: Mapping[str, Sequence[Row]]
    base_id: str
    token: str


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Pattern:
    folder = tmp_path_factory.mktemp("pattern")
    api = Api(make_app(folder, **QUIET)).login()
    key = api.post("/api/knowledge-bases", {"name": "damaged"}, 201)["id"]
    for text in ("Walruses rest on ice.", "Flamingos stand in water.", "Owls hunt at night."):
        last = api.post(f"/api/knowledge-bases/{key}/documents", {"title": text[:5], "text": text}, 201)
    api.call("DELETE", f"/api/knowledge-bases/{key}/documents/{last['id']}", 200)
    storage = api.app.extensions["agenthub"].storage
    rows = {table.name: storage.find(table, EVERY_TENANT, Query(limit=1000)) for table in MOVED_TABLES}
    api.app.extensions["agenthub"].close()
    return Pattern(folder, rows, key, str(api.token))


@dataclass(frozen=True, slots=True)
class Rows:
    """How an application is told to use a storage of some kind, and that storage; None: each application has a memory of its own."""

    environment: Mapping[str, str]
    storage: Storage | None


def fill(storage: Storage, pattern: Pattern) -> None:
    """Hold the pattern's rows, and none of those that a test may have left."""
    tables = [table for table in MOVED_TABLES if pattern.rows[table.name] or table in (SEGMENT_CHECKS, INTENTS, LEASES)]
    emptied = [DeleteWhere(table, EVERY_TENANT, ALL) for table in tables]
    storage.commit([*emptied, *(Insert(table, row) for table in tables for row in pattern.rows[table.name])])


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql", "bigquery"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    url = f"sqlite:///{tmp_path_factory.mktemp('rows')}/rows.db"
    environment: dict[str, str] = {}
    if request.param == "memory":
        yield Rows({"DATABASE_URL": "memory://"}, None)
        return
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_database"))
    if request.param == "bigquery":
        place, dataset = request.getfixturevalue("bigquery_place"), request.getfixturevalue("bigquery_dataset")
        url = place.url(dataset)
        environment = {"DATABASE_URL": "", "AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "180", **place.environment(dataset)}
    with closing(opened(url)) as storage:
        migrate(storage, tables=TABLES)
        yield Rows({"DATABASE_URL": url} | environment, storage)


class Place:
    """The pattern behind the HTTP API, on some storage."""

    def __init__(self, folder: Path, pattern: Pattern, rows: Rows) -> None:
        shutil.copytree(pattern.folder, folder, dirs_exist_ok=True)
        if rows.storage is not None:
            fill(rows.storage, pattern)  # before the application makes an owner of its own
        environment = {**QUIET, **rows.environment}
        app = make_app(folder, environment.pop("DATABASE_URL"), **environment)
        if rows.storage is None:
            fill(app.extensions["agenthub"].storage, pattern)
        self.api = Api(app, pattern.token)
        self.id = pattern.base_id
        self.path = f"/api/knowledge-bases/{self.id}"
        self.resources = app.extensions["agenthub"]
        self.folder = self.resources.volume.root / self.id

    @property
    def base(self) -> KnowledgeBase:
        return KnowledgeBaseRepository(self.resources.storage).get(EVERY_TENANT, self.id)

    @property
    def repairs(self) -> Repairs:
        return Repairs(self.resources.storage, self.resources.knowledge)

    def inspect(self, **options: object) -> Inspected:
        return Inspections(self.resources.storage, self.resources.knowledge).inspect(self.base, **options)  # type: ignore[arg-type]

    def file(self, name: str, segment: int = 0) -> Path:
        entries = self.resources.knowledge.read_manifest(self.id, self.base.pointer).segments
        return Path(self.folder / "segments" / entries[segment].id / name)

    def forget(self) -> None:
        """As a process that starts now."""
        self.resources.knowledge.close()

    def texts(self) -> list[str]:
        self.forget()
        hits = self.api.post(f"{self.path}/search", {"query": "animals", "mode": "semantic", "top_k": 100})["hits"]
        return sorted(hit["text"] for hit in hits)


@pytest.fixture
def place(tmp_path: Path, pattern: Pattern, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr("agenthub.repositories.knowledge.snapshots._NEGATIVE_CACHE_SECONDS", 0.0)
    made = Place(tmp_path, pattern, rows)
    yield made
    made.resources.close()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def kinds(seen: Inspected) -> set[str]:
    return {problem.kind for problem in seen.problems}


def test_what_is_whole_is_called_whole(place: Place) -> None:
    seen = place.inspect()
    assert seen.intact and seen.complete, seen.problems
    assert (seen.segment_count, seen.checked_segments, seen.checked_documents) == (3, 3, 2)


@pytest.mark.parametrize("name", [INDEX, KEYWORDS, FILTERS])
@pytest.mark.parametrize("harm", [flip, Path.unlink], ids=["flipped", "missing"])
def test_a_derived_file_is_made_again_as_a_new_segment(place: Place, name: str, harm: Callable[[Path], None]) -> None:
    before, damaged = place.texts(), place.file(name)
    harm(damaged)
    seen = place.inspect()
    assert kinds(seen) == {"derived"} and seen.problems[0].file == name
    done = place.repairs.repair(place.base, seen.damages)
    assert (len(done.rebuilt), done.quarantined) == (1, ())
    assert place.base.generation == done.generation == seen.generation + 1
    assert place.inspect().intact
    assert place.texts() == before
    assert place.file(name) != damaged and damaged.parent.exists(), "the damaged files stay where they are"


def test_lost_vectors_are_taken_from_the_exact_copy_in_the_index(place: Place) -> None:
    good = place.file(VECTORS).read_bytes()
    flip(place.file(VECTORS))
    seen = place.inspect()
    assert "truth" in kinds(seen)
    assert place.repairs.repair(place.base, seen.damages).quarantined == ()
    assert place.inspect().intact
    assert place.file(VECTORS).read_bytes() == good


@pytest.mark.parametrize("name", [CHUNKS, HEADER])
def test_damaged_truth_is_named_put_in_quarantine_and_never_answered(place: Place, name: str) -> None:
    path = place.file(name)
    flip(path)
    seen = place.inspect()
    assert "truth" in kinds(seen)
    segment_id = path.parent.name
    assert place.repairs.repair(place.base, seen.damages).quarantined == (segment_id,)
    checks = SegmentCheckRepository(place.resources.storage)
    assert checks.quarantined(place.base) == {segment_id}
    assert checks.of(place.base)[segment_id].damages["files"][0]["file"] == name
    assert path.exists() and place.base.generation == seen.generation
    place.forget()
    place.api.refused("POST", f"{place.path}/search", 503, "volume_unavailable", json={"query": "animals"})


def test_vectors_and_index_both_lost_are_lost_truth(place: Place) -> None:
    flip(place.file(VECTORS))
    flip(place.file(INDEX))
    assert len(place.repairs.repair(place.base, place.inspect().damages).quarantined) == 1


def test_on_the_operators_word_the_newest_whole_generation_comes_back(place: Place) -> None:
    """The second document's segment is damaged: generation 2, with the first document alone, is the newest that is whole."""
    flip(place.file(CHUNKS, 1))
    place.forget()
    assert place.repairs.newest_intact(place.base) == 2
    restored = place.repairs.go_back(place.base, 2)
    assert (restored.restored_generation, restored.document_count) == (2, 1)
    assert place.texts() == ["Walruses rest on ice."]
    assert place.inspect().intact


def test_a_lost_manifest_is_got_over(place: Place) -> None:
    flip(place.folder / place.base.manifest_name)
    place.forget()
    seen = place.inspect()
    assert [problem.segment_id for problem in seen.problems] == [None] and not seen.complete
    found = place.repairs.newest_intact(place.base)
    assert found == 3
    assert place.repairs.go_back(place.base, found).restored_generation == 3
    assert place.texts() == ["Flamingos stand in water.", "Walruses rest on ice."]
    assert place.inspect().intact


def test_nothing_whole_is_nothing_to_fall_back_on(place: Place) -> None:
    for manifest in (place.folder / "manifests").iterdir():
        flip(manifest)
    place.forget()
    with pytest.raises(NotRetained):
        place.repairs.newest_intact(place.base)


def test_originals_documents_and_counts_are_compared(place: Place) -> None:
    originals = list((place.folder / "originals").iterdir())
    for harm in (flip, Path.unlink):
        for original in originals:
            harm(original)
        seen = place.inspect()
        assert (kinds(seen), seen.problem_count) == ({"original"}, 2)
    wrong = replace(place.base, chunk_count=17, document_count=9)
    seen = Inspections(place.resources.storage, place.resources.knowledge).inspect(wrong)
    assert sum(problem.kind == "row" for problem in seen.problems) == 2


def test_a_large_one_is_verified_over_several_calls(place: Place) -> None:
    first = place.inspect(budget=Budget(bytes=1))
    assert (first.checked_segments, first.next_segment, first.complete) == (1, 1, False)
    last = place.inspect(first_segment=2, budget=Budget(bytes=1))
    assert (last.checked_segments, last.next_segment, last.complete) == (1, None, False)


def test_old_generations_are_verified_too(place: Place) -> None:
    answer = place.api.post(f"{place.path}/verify", {"generation": 3})
    assert answer["intact"] and answer["complete"] and (answer["generation"], answer["segment_count"]) == (3, 2), answer
    flip(place.file(CHUNKS, 0))
    answer = place.api.post(f"{place.path}/verify", {})
    assert not answer["intact"] and answer["problems"][0]["kind"] == "truth"


def test_scrubbing_takes_the_segments_in_turn(place: Place) -> None:
    seen = [place.repairs.scrub(place.base) for _ in range(4)]
    ids = [check.segment_id for check in seen if check]
    assert len(set(ids[:3])) == 3 and ids[3] == ids[0]
    assert {check.condition for check in seen if check} == {"whole"}
    flip(place.file(KEYWORDS, 1))
    found = {check.condition for check in (place.repairs.scrub(place.base) for _ in range(3)) if check}
    assert found == {"whole", "damaged"}


def test_a_segment_that_is_whole_again_leaves_quarantine(place: Place) -> None:
    path = place.file(CHUNKS)
    good = path.read_bytes()
    flip(path)
    place.repairs.repair(place.base, place.inspect().damages)
    path.write_bytes(good)
    for _ in range(3):
        place.repairs.scrub(place.base)
    assert SegmentCheckRepository(place.resources.storage).quarantined(place.base) == set()


def test_random_bytes_are_never_called_whole(place: Place) -> None:
    random = np.random.default_rng(5)
    for name in (HEADER, CHUNKS, VECTORS, INDEX, KEYWORDS, FILTERS):
        path = place.file(name)
        good = path.read_bytes()
        path.write_bytes(random.integers(0, 256, len(good), dtype=np.uint8).tobytes())
        assert not place.inspect().intact, name
        path.write_bytes(good)
    assert place.inspect().intact
