"""Pairs of storages with the tables of the contract suite."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agenthub.storage.configuration import BigQuerySettings
from agenthub.storage.contract import Insert, Storage
from agenthub.storage.moving.copying import Move
from agenthub.storage.moving.filling import End
from agenthub.storage.moving.tables import MOVES
from agenthub.storage.schema import create_tables
from tests.contracts.storage.conftest import opened
from tests.contracts.storage.tables import EVENTS, EVERYTHING, GLOBALS, MOMENT, THINGS, thing
from tests.servers.bigquery import BigQueryPlace, drop_dataset
from tests.servers.postgresql import create_database

Open = Callable[..., Storage]
Make = Callable[..., Storage]


@pytest.fixture
def make(request: pytest.FixtureRequest, open_url: Open, postgresql_url: str, tmp_path: Path) -> Iterator[Make]:
    """Makes an empty storage of a kind."""
    closing: list[Storage] = []
    datasets: list[BigQuerySettings] = []

    def made(kind: str, name: str = "rows") -> Storage:
        if kind == "bigquery":
            place: BigQueryPlace = request.getfixturevalue("bigquery_place")
            datasets.append(place.dataset())
            closing.append(opened(place.url(datasets[-1])))
            create_tables(closing[-1], [*EVERYTHING, MOVES])
            return closing[-1]
        url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/{name}.db"}.get(kind) or create_database(postgresql_url)
        storage = open_url(url)
        create_tables(storage, [*EVERYTHING, MOVES])
        return storage

    yield made
    for storage in closing:
        storage.close()
    for dataset in datasets:
        drop_dataset(dataset)


def moving(source: Storage, target: Storage) -> Move:
    return Move(End(source, "here"), End(target, "there"), EVERYTHING)


def populate(storage: Storage, count: int = 1300, seed: int = 0) -> None:
    """Rows of all kinds: every type, NULL, edges of numbers and times, odd texts."""
    chooser = random.Random(seed)
    for start in range(0, count, 300):
        rows = [varied(chooser, f"{chooser.choice('aZ~é日')}{number:06}") for number in range(start, min(start + 300, count))]
        events = [{"id": f"e{row['id']}", "tenant_id": "a", "at": row["made_at"], "text": row["name"]} for row in rows]
        storage.commit([*(Insert(THINGS, row) for row in rows), *(Insert(EVENTS, row) for row in events)])
    storage.commit([Insert(GLOBALS, {"id": "g", "name": "n", "count": 2**63 - 1})])


def varied(chooser: random.Random, key: str) -> dict[str, Any]:
    data = {"é": [1, 1.5, None, True, {"deep": ["\u2028", chooser.random()]}], "n": chooser.choice([0, -1, 2**63, 1e300, 5e-324])}
    return thing(
        key,
        chooser.choice(["a", "b", "日本"]),
        number=chooser.choice([0, -(2**63), 2**63 - 1, chooser.getrandbits(40)]),
        weight=chooser.choice([0.0, 0.1, 1e308, -5e-324, chooser.random()]),
        active=chooser.random() < 0.5,
        made_at=MOMENT + timedelta(microseconds=chooser.getrandbits(45)),
        data=data,
        nickname=chooser.choice([None, "", f"nick {key}"]),
        rank=chooser.choice([None, 7]),
        share=chooser.choice([None, 1 / 3]),
        flag=chooser.choice([None, False]),
        until=chooser.choice([None, MOMENT]),
        raw=chooser.choice([None, b"", bytes(range(256))]),
        extra=chooser.choice([None, [], [[], {}]]),
        version=chooser.choice([1, 2, 99]),
    ) | ({"nickname": None} if chooser.random() < 0.3 else {"rank": chooser.getrandbits(50)})
