"""Reads: tenants, filters, orders, pages, the clock, and named questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenthub.core.errors import InvalidInput, NotFound, VersionConflict
from agenthub.core.types import TenantId
from agenthub.storage.contract import (
    ALL,
    EVERY_TENANT,
    And,
    Column,
    ColumnType,
    Compare,
    DbNow,
    Delete,
    DeleteWhere,
    Filter,
    Insert,
    Or,
    Order,
    Query,
    Question,
    Require,
    Row,
    Storage,
    TenantScope,
    Update,
    eq,
)
from agenthub.storage.memory import MemoryStorage
from tests.contracts.storage.tables import MOMENT, THINGS, A, B, examples, thing


def every_row(storage: Storage, tenant: TenantScope, query: Query) -> list[Row]:
    """All pages, one after the other."""
    rows: list[Row] = []
    while True:
        after = rows and (*(rows[-1][part.column] for part in query.order), rows[-1]["id"])
        page = storage.find(THINGS, tenant, Query(query.where, query.order, query.limit, after or None))
        rows += page
        if len(page) < query.limit:
            return rows


def test_reads_see_one_tenant_only(storage: Storage) -> None:
    mine, theirs = thing("m"), thing("t", "b")
    storage.commit([Insert(THINGS, mine), Insert(THINGS, theirs)])
    assert storage.get(THINGS, A, "m") == mine
    assert storage.get(THINGS, A, "t") is None
    assert storage.get(THINGS, EVERY_TENANT, "t") == theirs
    assert storage.get_many(THINGS, A, ["t", "m", "none"]) == {"m": mine}
    assert storage.get_many(THINGS, EVERY_TENANT, ["t", "m"]) == {"m": mine, "t": theirs}
    assert storage.find(THINGS, A, Query()) == [mine]
    assert storage.find(THINGS, A, Query(Or((eq(tenant_id="b"), eq(id="t"))))) == []
    assert storage.count(THINGS, A) == 1
    assert storage.count(THINGS, EVERY_TENANT) == 2
    assert storage.count(THINGS, TenantId("none")) == 0


def test_writes_reach_one_tenant_only(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("t", "b"))])
    for write in (Update(THINGS, A, "t", {"number": 2}), Delete(THINGS, A, "t"), Require(THINGS, A, "t")):
        with pytest.raises(NotFound):
            storage.commit([write])
    storage.commit([DeleteWhere(THINGS, A, Or((ALL, eq(tenant_id="b"))))])
    assert storage.get(THINGS, B, "t") == thing("t", "b")


def test_hostile_keys_and_tenants_find_nothing(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    for text in ("nul\x00", "\ud800", "k' OR '1'='1", "%", "k%", "K", ":id", "", "x" * 10_000):
        assert storage.get(THINGS, A, text) is None
        assert storage.get(THINGS, TenantId(text), "k") is None
        assert storage.get_many(THINGS, A, [text, "k"]) == {"k": thing("k")}
        assert storage.count(THINGS, TenantId(text)) == 0


def test_get_many_is_bounded_and_keeps_the_order_asked_for(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing(f"k{i:04}")) for i in range(1000)])
    keys = [f"k{i:04}" for i in reversed(range(1000))]
    assert list(storage.get_many(THINGS, A, keys)) == keys
    assert storage.get_many(THINGS, A, []) == {}
    with pytest.raises(InvalidInput):
        storage.get_many(THINGS, A, [*keys, "one more"])


NAMES = [
    "",
    " ",
    "A",
    "Z",
    "a",
    "aa",
    "a b",
    "ab",
    "z",
    "é",
    "e\u0301",
    "ß",
    "ﬀ",
    "日本",
    "🐝",
    "\U0010ffff",
    "\ue000",
    "-",
    "_",
    "10",
    "9",
]


def test_text_sorts_and_compares_by_code_point(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing(f"{i:02}", name=name)) for i, name in enumerate(NAMES)])
    ordered = [row["name"] for row in storage.find(THINGS, A, Query(order=(Order("name"),)))]
    assert ordered == sorted(NAMES)
    assert [row["name"] for row in every_row(storage, A, Query(order=(Order("name", True),), limit=3))] == sorted(NAMES, reverse=True)
    for name in NAMES:
        assert storage.count(THINGS, A, Compare("name", "lt", name)) == sorted(NAMES).index(name)


ORDERS = [
    (),
    (Order("number"),),
    (Order("number", descending=True),),
    (Order("number"), Order("made_at")),
    (Order("number", descending=True), Order("made_at", descending=True)),
    (Order("number"), Order("made_at", descending=True)),
    (Order("active", descending=True), Order("weight"), Order("made_at", descending=True)),
    (Order("id", descending=True),),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
def test_pages_are_complete_under_ties(storage: Storage, order: tuple[Order, ...], limit: int) -> None:
    rows = [
        thing(f"k{i:02}", number=i % 3, weight=i % 2 / 2, active=i % 4 < 2, made_at=MOMENT + timedelta(microseconds=i % 5))
        for i in range(30)
    ]
    storage.commit([Insert(THINGS, row) for row in rows] + [Insert(THINGS, thing("foreign", "b"))])
    expected: list[Row] = list(rows)
    for part in reversed((*order, Order("id", descending=bool(order) and order[-1].descending))):
        expected.sort(key=lambda row: row[part.column], reverse=part.descending)
    assert every_row(storage, A, Query(order=order, limit=limit)) == expected


def test_rows_added_behind_a_page_are_not_skipped(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing(f"k{i}", number=i)) for i in (1, 2, 5)])
    first = storage.find(THINGS, A, Query(order=(Order("number"),), limit=2))
    storage.commit([Insert(THINGS, thing("k3", number=3)), Delete(THINGS, A, "k2")])
    rest = storage.find(THINGS, A, Query(order=(Order("number"),), after=(2, first[-1]["id"])))
    assert [row["number"] for row in rest] == [3, 5]


BAD_QUERIES = [
    Query(limit=0),
    Query(limit=1001),
    Query(limit=-1),
    Query(order=(Order("none"),)),
    Query(order=(Order("rank"),)),
    Query(order=(Order("data"),)),
    Query(after=()),
    Query(after=("a", "b")),
    Query(after=(1,)),
    Query(after=(None,)),
    Query(after=("nul\x00",)),
    Query(order=(Order("number"),), after=("1", "k")),
    Query(Compare("none", "eq", 1)),
    Query(Compare("number", "eq", "1")),
    Query(Compare("number", "eq", 2**70)),
    Query(Compare("name", "eq", "nul\x00")),
    Query(Compare("made_at", "lt", MOMENT.replace(tzinfo=None))),
    Query(Compare("number", "lt", DbNow())),
    Query(Compare("number", "in", 5)),
    Query(Compare("data", "eq", "x")),
    Query(And((Or((Compare("none", "is_null"),)),))),
]


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_queries_that_do_not_fit_the_table_are_refused(storage: Storage, query: Query) -> None:
    with pytest.raises(InvalidInput):
        storage.find(THINGS, A, query)


def test_comparing_with_null_is_never_true(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("null")), Insert(THINGS, thing("five", rank=5))])

    def found(where: Filter) -> list[str]:
        return [row["id"] for row in storage.find(THINGS, A, Query(where))]

    assert found(Compare("rank", "eq", None)) == []
    assert found(Compare("rank", "ne", None)) == []
    assert found(Compare("rank", "ne", 5)) == []
    assert found(Compare("rank", "ne", 6)) == ["five"]
    assert found(Compare("rank", "in", ())) == []
    assert found(Compare("rank", "in", (None,))) == []
    assert found(Compare("rank", "in", (None, 5))) == ["five"]
    assert found(eq(rank=None)) == ["null"]
    assert found(Compare("extra", "is_null")) == ["five", "null"]
    assert found(And()) == ["five", "null"]
    assert found(Or()) == []


def _values(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | numbers


SMALL = {
    "number": st.integers(-2, 2),
    "weight": st.sampled_from([-1.5, 0.0, 0.1, 2.0, 1e300]),
    "active": st.booleans(),
    "name": st.sampled_from(NAMES),
    "made_at": st.sampled_from(
        [MOMENT, MOMENT + timedelta(microseconds=1), datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)]
    ),
    "rank": _values(st.integers(-1, 1)),
    "share": _values(st.sampled_from([0.0, 1 / 3])),
    "flag": _values(st.booleans()),
    "until": _values(st.sampled_from([MOMENT, MOMENT - timedelta(days=1)])),
    "raw": _values(st.sampled_from([b"", b"\x00", b"\x00\xff", b"a"])),
    "nickname": _values(st.sampled_from(["", "b"])),
}


def _comparisons(column: str) -> st.SearchStrategy[Filter]:
    value = SMALL[column]
    operators = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
    return st.one_of(
        st.builds(Compare, st.just(column), operators, value),
        st.builds(Compare, st.just(column), st.just("in"), st.lists(value, max_size=3).map(tuple)),
        st.builds(Compare, st.just(column), st.sampled_from(["is_null", "not_null"])),
    )


FILTERS = st.recursive(
    st.sampled_from(sorted(SMALL)).flatmap(_comparisons),
    lambda inner: st.lists(inner, max_size=3).map(tuple).map(And) | st.lists(inner, max_size=3).map(tuple).map(Or),
    max_leaves=8,
)
ROWS = st.lists(st.fixed_dictionaries({**SMALL, "tenant_id": st.sampled_from(["a", "b"])}), max_size=12)
SORTS = st.lists(st.builds(Order, st.sampled_from(["number", "weight", "active", "name", "made_at"]), st.booleans()), max_size=3).map(tuple)


def test_every_backend_answers_as_the_model_does(storage: Storage) -> None:
    @settings(max_examples=examples(storage, 120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(rows=ROWS, where=FILTERS, order=SORTS, limit=st.integers(1, 5))
    def check(rows: list[dict[str, Any]], where: Filter, order: tuple[Order, ...], limit: int) -> None:
        model = MemoryStorage()
        things = [thing(f"k{i:02}", **{**row, "name": f"{row['name']}{i}", "rank": None}) for i, row in enumerate(rows)]
        for target in (storage, model):
            target.commit([DeleteWhere(THINGS, EVERY_TENANT, ALL), *(Insert(THINGS, row) for row in things)])
        for tenant in (A, EVERY_TENANT):
            query = Query(where, order, limit)
            assert every_row(storage, tenant, query) == every_row(model, tenant, query)
            assert storage.count(THINGS, tenant, where) == model.count(THINGS, tenant, where)
        before = {row["id"] for row in things}
        for target in (storage, model):
            target.commit([DeleteWhere(THINGS, A, where)])
        left = [row["id"] for row in every_row(storage, EVERY_TENANT, Query())]
        assert left == [row["id"] for row in every_row(model, EVERY_TENANT, Query())]
        assert set(left) <= before

    check()


def test_the_clock_is_aware_utc_and_moves(storage: Storage) -> None:
    first, second = storage.now(), storage.now()
    assert first.utcoffset() == timedelta(0)
    assert first <= second
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=5)
    assert 0 <= storage.ping() < 60


def test_a_lease_by_the_database_clock(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("lease", until=DbNow(-1)))])
    free = Compare("until", "le", DbNow())
    (taken,) = storage.commit([Update(THINGS, A, "lease", {"until": DbNow(60), "nickname": "me"}, where=free)])
    assert taken is not None
    assert timedelta(seconds=50) < taken["until"] - storage.now() < timedelta(seconds=70)
    with pytest.raises(VersionConflict):
        storage.commit([Update(THINGS, A, "lease", {"until": DbNow(60), "nickname": "you"}, where=free)])
    storage.commit([Require(THINGS, A, "lease", Compare("until", "gt", DbNow(30)))])
    with pytest.raises(VersionConflict):
        storage.commit([Require(THINGS, A, "lease", Compare("until", "gt", DbNow(90)))])
    assert storage.count(THINGS, A, Compare("until", "lt", DbNow())) == 0
    assert storage.count(THINGS, A, Compare("until", "lt", DbNow(3600))) == 1
    storage.commit([DeleteWhere(THINGS, A, Compare("until", "lt", DbNow(0.5)))])
    assert storage.count(THINGS, A) == 1


def test_several_rows_made_with_the_clock(storage: Storage) -> None:
    results = storage.commit([Insert(THINGS, thing(f"k{i}", until=DbNow(i))) for i in range(3)] + [Insert(THINGS, thing("plain"))])
    times = [row["until"] for row in results[:3] if row]
    assert times == sorted(times)
    assert [storage.get(THINGS, A, f"k{i}") for i in range(3)] == results[:3]


def _totals(read: Callable[[str], Sequence[Row]], parameters: Mapping[str, Any]) -> Sequence[Row]:
    rows = [row for row in read("things") if row["tenant_id"] == parameters["tenant"] and row["made_at"] >= parameters["since"]]
    rows = [row for row in rows if row["name"] in parameters["names"]]
    numbers = [row["number"] for row in rows]
    mean = sum(numbers) / len(numbers) if numbers else None
    return [{"rows": len(rows), "total": sum(numbers), "mean": mean, "last": max((row["made_at"] for row in rows), default=None)}]


TOTALS = Question(
    name="totals",
    columns=(
        Column("rows", ColumnType.INTEGER),
        Column("total", ColumnType.INTEGER),
        Column("mean", ColumnType.REAL, nullable=True),
        Column("last", ColumnType.TIMESTAMP, nullable=True),
    ),
    statements={
        "sql": "SELECT count(*) AS rows, coalesce(sum(number), 0) AS total, avg(number) AS mean, max(made_at) AS last "
        "FROM things WHERE tenant_id = :tenant AND made_at >= :since AND name IN :names"
    },
    memory=_totals,
)


def test_a_named_question_is_answered_alike(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing(f"k{i}", number=i, made_at=MOMENT + timedelta(seconds=i))) for i in range(5)])
    storage.commit([Insert(THINGS, thing("foreign", "b"))])
    parameters = {"tenant": "a", "since": MOMENT + timedelta(seconds=1), "names": ("k0", "k1", "k2", "k4")}
    (answer,) = storage.ask(TOTALS, parameters)
    assert answer == {"rows": 3, "total": 7, "mean": 7 / 3, "last": MOMENT + timedelta(seconds=4)}
    assert [type(answer[name]) for name in ("rows", "total", "mean")] == [int, int, float]
    assert storage.ask(TOTALS, {**parameters, "tenant": "none' OR true --"}) == [{"rows": 0, "total": 0, "mean": None, "last": None}]
