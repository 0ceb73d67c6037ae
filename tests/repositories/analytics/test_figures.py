"""The same figures from every database and from the warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from agenthub.core.errors import MalformedInput, StorageUnavailable
from agenthub.core.types import EVERY_TENANT, TenantId
from agenthub.repositories.activity import Measured, noted
from agenthub.repositories.analytics.figures import Analytics, Figures, Span
from agenthub.repositories.operations import AUDIT_EVENTS, Actor, audit_event, row_of
from agenthub.storage.bigquery.warehouse import BigQueryWarehouse
from agenthub.storage.configuration import BigQuerySettings, parse_storage_url
from agenthub.storage.contract import ALL, DeleteWhere, Insert, Storage, Write
from agenthub.storage.memory import MemoryStorage
from agenthub.storage.open import open_storage
from agenthub.storage.schema import create_tables
from agenthub.storage.warehouse.exporting import Exporter, Limits
from tests.storage.warehouse.in_memory import MADE, TABLES, InMemoryWarehouse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS, THEIRS = TenantId("ours"), TenantId("theirs")
ADA, BOB = Actor("user", "ada"), Actor("api_key", "bob")
SPAN = Span(NOON - timedelta(days=10), NOON + timedelta(days=10))


def events() -> list[Write]:
    """Three days of two organizations, at the edges of days and of the span, with and without agents, actors and figures."""
    made: list[Write] = []
    for number in range(24):
        at = NOON.replace(hour=0) + timedelta(hours=3 * number, microseconds=-1)
        actor, agent = (ADA, "robin") if number % 3 else (BOB, None)
        figures = Measured(1.0, 0.1 * number, number, None if number % 2 else 2, {})
        made.append(noted(OURS, actor, at, "usage", f"rag.{'answer' if number % 2 else 'other'}", agent_id=agent, measured=figures))
        made.append(noted(OURS, actor, at, "message", "rag.generated"))
        result = ("ok", "failed", "denied")[number % 3]
        action = "session.start" if number % 2 else "agent.create"
        made.append(Insert(AUDIT_EVENTS, row_of(audit_event(actor, OURS, action, action.partition(".")[0], None, at, result))))
    made.append(noted(OURS, Actor(), NOON, "job", "upload.succeeded", measured=Measured(7, 1.5)))
    made.append(noted(OURS, ADA, SPAN.until, "usage", "rag.answer"))
    made.append(noted(THEIRS, ADA, NOON, "usage", "rag.answer", measured=Measured(1000.0)))
    made.append(Insert(AUDIT_EVENTS, row_of(audit_event(ADA, THEIRS, "session.start", "session", None, NOON, "ok"))))
    return made


def filled(url: str) -> Storage:
    settings = parse_storage_url(url)
    if settings.bigquery is not None:
        settings = replace(settings, bigquery=replace(settings.bigquery, timeout_seconds=120.0))
    storage = open_storage(settings, Flask("figures"))
    create_tables(storage, MADE)
    storage.commit([DeleteWhere(table, EVERY_TENANT, ALL) for table in TABLES])
    storage.commit(events())
    return storage


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql", "bigquery", "warehouse"])
def analytics(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analytics]:
    if request.param == "warehouse":
        yield from exported(request.getfixturevalue("bigquery_dataset"))
        return
    if request.param == "bigquery":
        url = str(request.getfixturevalue("bigquery_url"))
    elif request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_database"))
    else:
        url = f"sqlite:///{Path(tmp_path_factory.mktemp('figures'))}/figures.db" if request.param == "sqlite" else "memory://"
    storage = filled(url)
    yield Analytics(storage)
    storage.close()


def exported(dataset: BigQuerySettings) -> Iterator[Analytics]:
    """Answers of the warehouse alone: the database that they came from is gone."""
    source, warehouse = filled("memory://"), BigQueryWarehouse(replace(dataset, timeout_seconds=120.0))
    warehouse.make(TABLES)
    exporter = Exporter(source, warehouse, TABLES, Limits())
    exporter.run()
    yield Analytics(MemoryStorage(), warehouse, exporter.lag)
    warehouse.close()


def rows(figures: Figures) -> list[tuple[Any, ...]]:
    return [tuple(getattr(item, name) for name in item.__dataclass_fields__) for item in figures.items]


def test_uses_by_day(analytics: Analytics) -> None:
    assert rows(analytics.activity(OURS, "usage", "day", SPAN)) == [
        ("2026-02-28", 1, 1, 1.0, 0.0, 0, 2),
        ("2026-03-01", 8, 2, 8.0, 3.6, 36, 8),
        ("2026-03-02", 8, 2, 8.0, 10.0, 100, 8),
        ("2026-03-03", 7, 2, 7.0, 14.0, 140, 6),
    ]


def test_uses_by_name_actor_and_agent(analytics: Analytics) -> None:
    assert [row[:3] for row in rows(analytics.activity(OURS, "usage", "name", SPAN))] == [("rag.answer", 12, 2), ("rag.other", 12, 2)]
    assert [row[:3] for row in rows(analytics.activity(OURS, "usage", "actor_id", SPAN))] == [("ada", 16, 1), ("bob", 8, 1)]
    assert [row[:3] for row in rows(analytics.activity(OURS, "usage", "agent_id", SPAN))] == [("", 8, 1), ("robin", 16, 1)]


def test_filters(analytics: Analytics) -> None:
    assert sum(row[1] for row in rows(analytics.activity(OURS, "usage", "day", SPAN, actor_id="bob"))) == 8
    assert sum(row[1] for row in rows(analytics.activity(OURS, "usage", "day", SPAN, agent_id="robin"))) == 16
    assert rows(analytics.activity(OURS, "usage", "day", SPAN, agent_id="nobody")) == []
    assert rows(analytics.activity(OURS, "metric", "day", SPAN)) == []
    assert rows(analytics.activity(OURS, "job", "name", SPAN)) == [("upload.succeeded", 1, 0, 7.0, 1.5, 0, 0)]
    assert rows(analytics.activity(THEIRS, "usage", "day", SPAN)) == [("2026-03-01", 1, 1, 1000.0, 0.0, 0, 0)]
    empty = Span(SPAN.until + timedelta(days=1), SPAN.until + timedelta(days=2))
    assert rows(analytics.activity(OURS, "usage", "day", empty)) == []


def test_audit_events_by_how_they_ended(analytics: Analytics) -> None:
    assert rows(analytics.audit(OURS, "result", SPAN)) == [
        ("denied", 8, 1, 0, 8, 0),
        ("failed", 8, 1, 0, 0, 8),
        ("ok", 8, 1, 8, 0, 0),
    ]
    assert [row[:2] for row in rows(analytics.audit(OURS, "action", SPAN))] == [("agent.create", 12), ("session.start", 12)]
    assert [row[:2] for row in rows(analytics.audit(OURS, "resource_kind", SPAN))] == [("agent", 12), ("session", 12)]
    assert rows(analytics.audit(OURS, "actor_id", SPAN, action="agent.create")) == [("ada", 8, 1, 0, 4, 4), ("bob", 4, 1, 4, 0, 0)]


def test_sign_ins(analytics: Analytics) -> None:
    assert rows(analytics.sessions(OURS, "day", SPAN)) == [
        ("2026-03-01", 4, 2, 1, 1, 2),
        ("2026-03-02", 4, 2, 2, 1, 1),
        ("2026-03-03", 4, 2, 1, 2, 1),
    ]
    assert [row[:3] for row in rows(analytics.sessions(OURS, "actor_id", SPAN, actor_id="ada"))] == [("ada", 8, 1)]


def test_pages_come_one_after_the_other(analytics: Analytics) -> None:
    whole, found, cursor = rows(analytics.activity(OURS, "usage", "agent_id", SPAN)), [], None
    while True:
        page = analytics.activity(OURS, "usage", "agent_id", replace(SPAN, limit=1, cursor=cursor))
        found += rows(page)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == whole and len(found) == 2


def test_a_cursor_of_another_list_is_refused(analytics: Analytics) -> None:
    for cursor in ("x", "AAAA", "_w"):
        with pytest.raises(MalformedInput):
            analytics.activity(OURS, "usage", "day", replace(SPAN, cursor=cursor))


def test_the_answer_says_who_counted_and_how_far_it_is_behind() -> None:
    source, warehouse = filled("memory://"), InMemoryWarehouse()
    warehouse.backend = "bigquery"
    exporter = Exporter(source, warehouse, TABLES, Limits(interval_seconds=0))
    analytics = Analytics(source, warehouse, exporter.lag)
    before = analytics.activity(OURS, "usage", "day", SPAN)
    assert (before.source, before.lag_seconds) == ("memory", 0.0), "the rows of old are not there yet"
    exporter.run()
    after = analytics.activity(OURS, "usage", "day", SPAN)
    assert (after.source, after.lag_seconds, after.items) == ("bigquery", 0.0, before.items)
    source.commit([noted(OURS, ADA, NOON, "usage", "rag.answer")])
    behind = analytics.activity(OURS, "usage", "day", SPAN)
    assert behind.items == before.items
    assert behind.lag_seconds > 0
    exporter.run()
    assert analytics.activity(OURS, "usage", "day", SPAN).items[1].events == before.items[1].events + 1
    exporter.end()
    assert analytics.activity(OURS, "usage", "day", SPAN).source == "memory"


def test_a_warehouse_that_is_away_is_no_reason_to_ask_the_database() -> None:
    source, warehouse = filled("memory://"), InMemoryWarehouse()
    exporter = Exporter(source, warehouse, TABLES, Limits())
    exporter.run()

    def away(*_: Any) -> Any:
        raise StorageUnavailable("BigQuery can't be reached in time", retry_after_seconds=2)

    warehouse.__dict__["ask"] = away
    with pytest.raises(StorageUnavailable):
        Analytics(source, warehouse, exporter.lag).audit(OURS, "day", SPAN)
