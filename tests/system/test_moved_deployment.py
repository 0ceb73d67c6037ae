"""A populated deployment goes from SQLite to PostgreSQL, to BigQuery and back: the same rows everywhere, and the application works."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from agenthub.repositories.tables import MOVED_TABLES, TABLES
from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import EVERY_TENANT, Storage
from agenthub.storage.migrating import migrate
from agenthub.storage.moving.canonical import content_sha256
from agenthub.storage.moving.copying import Move
from agenthub.storage.moving.filling import End
from agenthub.storage.moving.scanning import summed
from tests.api import OWNER, Api, make_app
from tests.contracts.storage.conftest import opened
from tests.servers.bigquery import BigQueryPlace

SERVICES: Final = {"AGENTHUB_SERVICES": "agents.*,knowledge.*,platform.*", "AGENTHUB_MAINTENANCE": "off"}
TEXTS: Final = ("a heron stands in the shallow water", "the café opens at noon", "日本の庭は静かです")


@dataclass(frozen=True, slots=True)
class Station:
    """A database by the URL that moves take, and by the variables that an application is given."""

    name: str
    url: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """What the first station's application made: the ids of a knowledge base and of an agent."""

    base: str
    agent: str


@pytest.fixture
def stations(tmp_path: Path, postgresql_database: str, bigquery_place: BigQueryPlace, bigquery_dataset: BigQuerySettings) -> list[Station]:
    """SQLite, PostgreSQL, BigQuery and SQLite again, all empty, each with the tables of this release."""
    first, last = (f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "last"))
    project = bigquery_place.environment(bigquery_dataset) | {"AGENTHUB_BIGQUERY_TIMEOUT_SECONDS": "180"}
    found = [
        Station("first", first, {"DATABASE_URL": first}),
        Station("postgresql", postgresql_database, {"DATABASE_URL": postgresql_database}),
        Station("bigquery", bigquery_place.url(bigquery_dataset), {"DATABASE_URL": "", **project}),
        Station("last", last, {"DATABASE_URL": last}),
    ]
    for station in found:
        with closing(opened(station.url)) as storage:
            migrate(storage, tables=TABLES)
    return found


@pytest.fixture
def ends(stations: list[Station]) -> Iterator[list[End]]:
    """The stations, open."""
    with ExitStack() as stack:
        yield [End(stack.enter_context(closing(opened(station.url))), station.name) for station in stations]


def application(folder: Path, station: Station) -> Api:
    """The application on that station's rows, with the volume in `folder`, and its owner signed in with the password."""
    environment = station.environment | SERVICES | {"AGENTHUB_ACCEPT_EPHEMERAL_SQLITE": "on"}
    return Api(make_app(folder, environment.pop("DATABASE_URL"), **environment)).login(**OWNER)


def populated(api: Api) -> Made:
    """Rows of many tables: a user, an API key, agents, a refused sign-in, and a knowledge base with documents and a history."""
    base = str(api.post("/api/knowledge-bases", {"name": "Zoo"}, 201)["id"])
    documents = [api.post(f"/api/knowledge-bases/{base}/documents", {"title": text[:5], "text": text}, 201)["id"] for text in TEXTS]
    api.call("DELETE", f"/api/knowledge-bases/{base}/documents/{documents.pop()}", 200)
    agents = [api.post("/api/agents", {"name": f"Ärztin {number}", "knowledge_base_ids": [base]}, 201)["id"] for number in range(30)]
    api.post("/api/api-keys", {"name": "ci", "scopes": ["agents:read"]}, 201)
    api.call("POST", "/api/auth/login", 401, json={"email": OWNER["email"], "password": "not the right one"})
    return Made(base, agents[0])


def found(api: Api, made: Made) -> list[str]:
    """The texts that a search finds, best first."""
    answer = api.post(f"/api/knowledge-bases/{made.base}/search", {"query": "a bird on long legs in a lake", "mode": "semantic"})
    return [hit["text"] for hit in answer["hits"]]


def works(api: Api, made: Made, station: str, before: list[str]) -> None:
    """Search, read and write as on the first station; what is written is read again."""
    assert found(api, made) == before
    assert api.get(f"/api/agents/{made.agent}")["name"] == "Ärztin 0"
    text = f"a stork was seen at {station}"
    api.post(f"/api/knowledge-bases/{made.base}/documents", {"title": station, "text": text}, 201)
    assert sorted(found(api, made)) == sorted([*before, text])
    agent = api.post("/api/agents", {"name": station}, 201)
    assert api.get(f"/api/agents/{agent['id']}") == agent
    api.post("/api/auth/logout", status=204)
    api.get("/api/auth/me", 401)


def content(storage: Storage) -> str:
    return content_sha256(summed(storage, MOVED_TABLES))


@pytest.mark.timeout(900)
@pytest.mark.torture  # most of three minutes goes to the BigQuery emulator
def test_a_deployment_goes_round_all_databases(tmp_path: Path, stations: list[Station], ends: list[End]) -> None:
    home = tmp_path / "home"
    api = application(home, stations[0])
    made = populated(api)
    before = found(api, made)
    assert len(before) == len(TEXTS) - 1
    expected = content(ends[0].storage)
    filled = [table.name for table in MOVED_TABLES if ends[0].storage.count(table, EVERY_TENANT)]
    assert len(filled) >= 10, filled
    for source, target in pairwise(ends):
        move = Move(source, target, MOVED_TABLES)
        move.copy(follow=False)
        assert move.compare().differing == ()
        move.finish()
    assert [content(end.storage) for end in ends] == [expected] * len(ends)
    for station in stations[1:]:  # each goes its own way now, so each has a volume of its own
        shutil.copytree(home, tmp_path / station.name)
        works(application(tmp_path / station.name, station), made, station.name, before)
