"""Values come back exactly as they were stored, and what can't be stored is refused before anything is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.core.errors import InvalidInput
from agenthub.storage.contract import ALL, EVERY_TENANT, DeleteWhere, Insert, Query, Storage, Update
from tests.contracts.storage.tables import MOMENT, THINGS, A, examples, thing

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
LONGS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.timedeltas(timedelta(days=-700_000), timedelta(days=2_900_000)).map(lambda distance: MOMENT + distance)
JSON = st.recursive(
    st.none() | st.booleans() | LONGS | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def test_every_value_returns_as_it_was(storage: Storage) -> None:
    @settings(max_examples=examples(storage, 60), deadline=None)
    @given(
        name=TEXT,
        number=LONGS,
        weight=NUMBERS,
        active=st.booleans(),
        made_at=TIMES,
        data=st.dictionaries(TEXT, JSON, max_size=4),
        raw=st.none() | st.binary(max_size=60),
        extra=st.none() | st.lists(JSON, max_size=4),
    )
    def check(**columns: Any) -> None:
        storage.commit([DeleteWhere(THINGS, EVERY_TENANT, ALL)])
        row = thing("k", **columns)
        assert storage.commit([Insert(THINGS, row)]) == [row]
        assert storage.get(THINGS, A, "k") == row
        assert storage.find(THINGS, A, Query()) == [row]
        updated = storage.commit([Update(THINGS, A, "k", {"extra": columns["extra"], "raw": columns["raw"]})])[0]
        assert updated == {**row, "version": 2}

    check()


def test_rows_survive_reopening(storage: Storage, reopen: Callable[[], Storage]) -> None:
    row = thing("kept", name="Zoë 🐝", until=MOMENT)
    storage.commit([Insert(THINGS, row)])
    if storage.backend != "memory":
        other = reopen()
        assert other.get(THINGS, A, "kept") == row
        other.close()


def test_times_come_back_aware_in_utc_with_microseconds(storage: Storage) -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=-7, minutes=-30)))
    storage.commit([Insert(THINGS, thing("k", made_at=elsewhere))])
    stored = storage.get(THINGS, A, "k")
    assert stored is not None
    assert stored["made_at"] == MOMENT
    assert stored["made_at"].utcoffset() == timedelta(0)
    assert stored["made_at"].microsecond == 789012


def test_the_type_of_each_value_is_kept(storage: Storage) -> None:
    row = thing("k", weight=3, data={"int": 1, "float": 1.0, "big": 2**53 + 1, "deep": [[{"x": None}]]}, extra=())
    (stored,) = storage.commit([Insert(THINGS, row)])
    read = storage.get(THINGS, A, "k")
    for found in (stored, read):
        assert found is not None
        assert type(found["weight"]) is float
        assert type(found["active"]) is bool
        assert [type(found["data"][name]) for name in ("int", "float", "big")] == [int, float, int]
        assert found["extra"] == []


def test_a_string_enumeration_is_stored_as_plain_text(storage: Storage) -> None:
    class Kind(StrEnum):
        FIRST = "first"

    storage.commit([Insert(THINGS, thing("k", name=Kind.FIRST))])
    stored = storage.get(THINGS, A, "k")
    assert stored is not None
    assert type(stored["name"]) is str
    assert stored["name"] == "first"


def test_callers_do_not_share_json_with_the_storage(storage: Storage) -> None:
    data: dict[str, Any] = {"list": [1]}
    (stored,) = storage.commit([Insert(THINGS, thing("k", data=data))])
    assert stored is not None
    data["list"].append(2)
    stored["data"]["list"].append(3)
    read = storage.get(THINGS, A, "k")
    assert read is not None
    read["data"]["list"].append(4)
    assert storage.get(THINGS, A, "k") == thing("k", data={"list": [1]})


def test_null_json_is_null(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", extra=[]))])
    assert storage.commit([Update(THINGS, A, "k", {"extra": None})])[0] == thing("k", version=2)


REFUSED = [
    ("name", "with\x00nul"),
    ("name", "lone \ud800 surrogate"),
    ("name", b"bytes"),
    ("name", None),
    ("name", "x" * 2001),
    ("number", 2**63),
    ("number", -(2**63) - 1),
    ("number", True),
    ("number", 1.5),
    ("number", "1"),
    ("weight", math.nan),
    ("weight", math.inf),
    ("weight", 10**400),
    ("weight", "1.0"),
    ("active", 1),
    ("made_at", MOMENT.replace(tzinfo=None)),
    ("made_at", "2026-01-01T00:00:00Z"),
    ("raw", "text"),
    ("data", "text"),
    ("data", {"a": math.nan}),
    ("data", {"a": "\x00"}),
    ("data", {"a\x00": 1}),
    ("data", {1: 1}),
    ("data", {"a": 2**64}),
    ("data", {"a": object()}),
    ("unknown", 1),
]


@pytest.mark.parametrize(("column", "value"), REFUSED)
def test_what_no_backend_could_keep_is_refused(storage: Storage, column: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        storage.commit([Insert(THINGS, thing("first")), Insert(THINGS, thing("k", **{column: value}))])
    assert refusal.value.field == column
    assert storage.count(THINGS, EVERY_TENANT) == 0
    storage.commit([Insert(THINGS, thing("k"))])
    with pytest.raises(InvalidInput):
        storage.commit([Update(THINGS, A, "k", {column: value})])
    assert storage.get(THINGS, A, "k") == thing("k")


def test_json_nested_too_deep_is_refused(storage: Storage) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidInput):
        storage.commit([Insert(THINGS, thing("k", extra=deep))])


def test_left_out_columns_are_null_and_version_is_one(storage: Storage) -> None:
    short = {name: value for name, value in thing("k").items() if value is not None and name != "version"}
    assert storage.commit([Insert(THINGS, short)]) == [thing("k")]
    with pytest.raises(InvalidInput):
        storage.commit([Insert(THINGS, {"id": "x", "tenant_id": "a"})])


@pytest.mark.parametrize("column", ["id", "tenant_id", "version"])
def test_key_tenant_and_version_can_not_be_changed(storage: Storage, column: str) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    with pytest.raises(InvalidInput):
        storage.commit([Update(THINGS, A, "k", {column: thing("k")[column]})])
