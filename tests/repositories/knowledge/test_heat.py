"""The record of what is busy: ordered by decayed counts, merged by racing processes, and free of what was erased."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from flask import Flask

from agenthub.core.ids import new_id
from agenthub.core.types import KnowledgeBaseId, TenantId
from agenthub.repositories.knowledge.heat import MAX_QUESTIONS, Heat, HeatRepository
from agenthub.repositories.knowledge.knowledge_bases import KnowledgeBase
from agenthub.storage.configuration import parse_storage_url
from agenthub.storage.contract import Storage
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def base(key: str | None = None, signature: str = "model", dimension: int = 4) -> KnowledgeBase:
    return KnowledgeBase(
        id=KnowledgeBaseId(key or new_id()),
        tenant_id=TenantId("tenant"),
        name="kb",
        name_key="kb",
        description="",
        state="active",
        embedding_model="m",
        signature=signature,
        dimension=dimension,
        language="english",
        chunking={},
        generation=1,
        epoch=1,
        manifest_name="m",
        manifest_sha256="0" * 64,
        manifest_length_bytes=1,
        operation_id="o",
        document_count=0,
        chunk_count=0,
        size_bytes=0,
        created_by="u",
        created_at=NOW,
        updated_at=NOW,
    )


def vectors(*names: int) -> dict[str, bytes]:
    return {f"{name:064x}": np.eye(4, dtype="<f4")[name % 4].tobytes() for name in names}


SERVERS = {"postgresql": "postgresql_database", "bigquery": "bigquery_url"}


@pytest.fixture(params=["memory", "sqlite", "postgresql", "bigquery"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/heat.sqlite3"}.get(request.param)
    opened = open_storage(parse_storage_url(url or request.getfixturevalue(SERVERS[request.param])), Flask("heat"))
    create_tables(opened, [HeatRepository.table])
    yield opened
    opened.close()


def test_the_busiest_come_first_and_counts_add_up(storage: Storage) -> None:
    heats, one, other = HeatRepository(storage), base(), base()
    since = storage.now()
    heats.add_searches(one, 10, {}, since)
    heats.add_searches(other, 15, {}, since)
    assert [heat.id for heat in heats.busiest(1000) if heat.id in (one.id, other.id)] == [other.id, one.id]
    heats.add_searches(one, 10, {}, since)
    assert [heat.id for heat in heats.busiest(1000) if heat.id in (one.id, other.id)] == [one.id, other.id]
    assert len(heats.busiest(1)) == 1


def test_questions_are_kept_newest_first_and_bounded(storage: Storage) -> None:
    heats, one = HeatRepository(storage), base()
    since = storage.now()
    heats.add_searches(one, 1, vectors(*range(20)), since)
    heats.add_searches(one, 1, vectors(*range(18, 50)), since)
    kept = heats.get(one.tenant_id, one.id).vectors
    assert list(kept) == list(vectors(*range(18, 50)))
    heats.add_searches(one, 1, vectors(99), since)
    kept = heats.get(one.tenant_id, one.id).vectors
    assert len(kept) == MAX_QUESTIONS and next(iter(kept)) == f"{99:064x}"


def test_another_models_questions_leave(storage: Storage) -> None:
    heats, one = HeatRepository(storage), base()
    since = storage.now()
    heats.add_searches(one, 1, vectors(1, 2), since)
    heats.add_searches(replace(one, signature="other"), 1, vectors(3), since)
    heat = heats.get(one.tenant_id, one.id)
    assert (heat.signature, list(heat.vectors)) == ("other", list(vectors(3)))


def test_what_was_seen_before_an_erase_is_not_added_after_it(storage: Storage) -> None:
    heats, one = HeatRepository(storage), base()
    since = storage.now()
    heats.add_searches(one, 1, vectors(1), since)
    assert heats.clear(one) == 1
    assert heats.clear(one) == 0
    heats.add_searches(one, 5, vectors(1, 2), since)
    assert heats.get(one.tenant_id, one.id).vectors == {}
    heats.add_searches(one, 5, vectors(2), storage.now() + timedelta(microseconds=1))
    assert list(heats.get(one.tenant_id, one.id).vectors) == list(vectors(2))


def test_an_erase_counts_where_nothing_was_recorded_yet(storage: Storage) -> None:
    heats, one = HeatRepository(storage), base()
    since = storage.now()
    assert heats.clear(one) == 0
    heats.add_searches(one, 5, vectors(1), since)
    heat = heats.get(one.tenant_id, one.id)
    assert heat.vectors == {}
    assert heat.rank > 0


def test_racing_processes_lose_no_erase(storage: Storage) -> None:
    one, since = base(), storage.now()

    def add(number: int) -> None:
        HeatRepository(storage).add_searches(one, 1, vectors(number), since)

    with ThreadPoolExecutor(4) as pool:
        cleared = pool.submit(HeatRepository(storage).clear, one)
        for added in [pool.submit(add, number) for number in range(8)]:
            added.result(60)
    if cleared.exception(60) is None:
        assert HeatRepository(storage).get(one.tenant_id, one.id).vectors == {}


def test_a_deleted_knowledge_base_leaves_none(storage: Storage) -> None:
    heats, one = HeatRepository(storage), base()
    storage.commit([heats.removal(one.tenant_id, one.id)])
    heats.add_searches(one, 1, {}, storage.now())
    storage.commit([heats.removal(one.tenant_id, one.id)])
    assert heats.find(one.tenant_id, one.id) is None


def test_searches_of_yesterday_count_half() -> None:
    blank = Heat(KnowledgeBaseId("k"), TenantId("t"), float("-inf"), "model", 4, b"", None)
    old = blank.with_searches(base("k"), 100, {}, NOW)
    assert (
        old.with_searches(base("k"), 50, {}, NOW + timedelta(days=1)).rank
        == blank.with_searches(base("k"), 100, {}, NOW + timedelta(days=1)).rank
    )
    assert old.rank > blank.with_searches(base("k"), 49, {}, NOW + timedelta(days=1)).rank
    assert old.rank < blank.with_searches(base("k"), 51, {}, NOW + timedelta(days=1)).rank
