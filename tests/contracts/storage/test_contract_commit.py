"""Guarded writes: what each does, how each fails, and that a commit is whole or absent."""

from __future__ import annotations

import pytest

from agenthub.core.errors import AlreadyExists, InvalidInput, NotFound, VersionConflict
from agenthub.core.types import TenantId
from agenthub.storage.contract import (
    ALL,
    EVERY_TENANT,
    MAX_WRITES,
    Compare,
    Delete,
    DeleteWhere,
    Insert,
    Query,
    Require,
    Storage,
    Update,
    Write,
    eq,
)
from tests.contracts.storage.tables import EVENTS, GLOBALS, MOMENT, THINGS, A, B, event, thing


def test_insert_refuses_a_taken_key_whoever_owns_it(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    for tenant in ("a", "b"):
        with pytest.raises(AlreadyExists) as refusal:
            storage.commit([Insert(THINGS, thing("k", tenant, name="other"))])
        assert (refusal.value.table, refusal.value.columns, refusal.value.field) == ("things", ("id",), "id")
    assert storage.get(THINGS, A, "k") == thing("k")


def test_insert_refuses_taken_unique_values_within_the_tenant(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", name="same"))])
    with pytest.raises(AlreadyExists) as refusal:
        storage.commit([Insert(THINGS, thing("l", name="same"))])
    assert refusal.value.columns == ("tenant_id", "name")
    assert refusal.value.field == "name"
    storage.commit([Insert(THINGS, thing("l", "b", name="same"))])


def test_update_refuses_taken_unique_values(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k")), Insert(THINGS, thing("l"))])
    with pytest.raises(AlreadyExists) as refusal:
        storage.commit([Update(THINGS, A, "l", {"name": "k"})])
    assert refusal.value.field == "name"
    storage.commit([Update(THINGS, A, "l", {"name": "l"})])


def test_unique_values_are_free_again_after_update_and_delete(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", name="one"))])
    storage.commit([Update(THINGS, A, "k", {"name": "two"}), Insert(THINGS, thing("l", name="one"))])
    storage.commit([Delete(THINGS, A, "l"), Insert(THINGS, thing("m", name="one"))])
    assert storage.count(THINGS, A) == 2


def test_null_in_a_unique_set_lifts_the_constraint(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing(f"k{i}", nickname="bee", rank=None)) for i in range(3)])
    storage.commit([Insert(THINGS, thing("x", nickname="bee", rank=1))])
    with pytest.raises(AlreadyExists) as refusal:
        storage.commit([Insert(THINGS, thing("y", nickname="bee", rank=1))])
    assert refusal.value.columns == ("tenant_id", "nickname", "rank")
    assert refusal.value.field == "nickname"


def test_a_table_without_tenant(storage: Storage) -> None:
    row = {"id": "g", "name": "one", "count": 0, "version": 1}
    storage.commit([Insert(GLOBALS, row)])
    with pytest.raises(AlreadyExists) as refusal:
        storage.commit([Insert(GLOBALS, {**row, "id": "h"})])
    assert refusal.value.field == "name"
    assert storage.get(GLOBALS, EVERY_TENANT, "g") == row
    with pytest.raises(InvalidInput):
        storage.get(GLOBALS, A, "g")


def test_ignored_inserts_leave_the_row_and_return_none(storage: Storage) -> None:
    storage.commit([Insert(EVENTS, event("1", text="first"))])
    rows = [event("1", text="second"), event("2"), event("2", text="again"), event("1", "b")]
    results = storage.commit([Insert(EVENTS, row, ignore_existing=True) for row in rows])
    assert results == [None, event("2"), None, None]
    assert storage.get(EVENTS, A, "1") == event("1", text="first")


def test_ignoring_covers_the_key_only(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", name="same"))])
    with pytest.raises(AlreadyExists):
        storage.commit([Insert(THINGS, thing("l", name="same"), ignore_existing=True)])


def test_append_can_be_repeated(storage: Storage) -> None:
    rows = [event(f"{i:05}") for i in range(2500)]
    storage.append(EVENTS, rows[:1500])
    storage.append(EVENTS, rows)
    storage.append(EVENTS, [])
    assert storage.count(EVENTS, A) == 2500


def test_update_returns_the_stored_row_and_raises_the_version(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", rank=5))])
    (row,) = storage.commit([Update(THINGS, A, "k", {"number": 7, "rank": None}, expected_version=1)])
    assert row == thing("k", number=7, version=2)
    assert storage.get(THINGS, A, "k") == row
    assert storage.commit([Update(THINGS, A, "k", {})]) == [{**row, "version": 3}]


def test_update_of_a_table_without_versions(storage: Storage) -> None:
    storage.commit([Insert(EVENTS, event("1"))])
    assert storage.commit([Update(EVENTS, A, "1", {"text": "new"})]) == [event("1", text="new")]
    assert storage.commit([Update(EVENTS, A, "1", {})]) == [event("1", text="new")]
    with pytest.raises(InvalidInput):
        storage.commit([Update(EVENTS, A, "1", {}, expected_version=1)])
    with pytest.raises(InvalidInput):
        storage.commit([Delete(EVENTS, A, "1", expected_version=1)])


HOLDS = Compare("number", "eq", 1)
FAILS = Compare("number", "eq", 2)


def guarded(tenant: TenantId, key: str, where: Compare | None = None, version: int | None = None) -> list[Write]:
    """Each write that is guarded, with these guards."""
    condition = where or ALL
    result: list[Write] = [
        Update(THINGS, tenant, key, {"number": 9}, version, condition),
        Delete(THINGS, tenant, key, version, condition),
    ]
    return result if version else [*result, Require(THINGS, tenant, key, condition)]


def test_a_missing_or_foreign_row_is_not_found(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k", "b"))])
    for write in [
        *guarded(A, "none"),
        *guarded(A, "k"),
        *guarded(A, "k", HOLDS),
        *guarded(A, "k", FAILS),
        *guarded(A, "nul\x00"),
    ]:
        with pytest.raises(NotFound):
            storage.commit([write])
    assert storage.get(THINGS, B, "k") == thing("k", "b")


def test_a_failed_guard_is_a_version_conflict(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    for write in [*guarded(A, "k", FAILS), *guarded(A, "k", version=2), *guarded(A, "k", HOLDS, 2), *guarded(A, "k", FAILS, 1)]:
        with pytest.raises(VersionConflict):
            storage.commit([write])
    assert storage.get(THINGS, A, "k") == thing("k")


def test_guards_that_hold(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    assert storage.commit([Require(THINGS, A, "k", HOLDS)]) == [thing("k")]
    assert storage.commit([Require(THINGS, EVERY_TENANT, "k")]) == [thing("k")]
    assert storage.commit([Update(THINGS, A, "k", {}, 1, HOLDS)]) == [thing("k", version=2)]
    assert storage.commit([Delete(THINGS, A, "k", 2, HOLDS)]) == [None]
    assert storage.get(THINGS, A, "k") is None


def test_deleting_what_may_be_missing(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    assert storage.commit([Delete(THINGS, A, "none", missing_ok=True)]) == [None]
    assert storage.commit([Delete(THINGS, B, "k", missing_ok=True)]) == [None]
    with pytest.raises(VersionConflict):
        storage.commit([Delete(THINGS, A, "k", 7, missing_ok=True)])
    assert storage.count(THINGS, A) == 1
    storage.commit([Delete(THINGS, A, "k", missing_ok=True)])
    assert storage.count(THINGS, A) == 0


def test_delete_where_takes_every_match_of_the_tenant(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing(f"{tenant}{i}", tenant, number=i)) for tenant in "ab" for i in range(5)])
    storage.commit([DeleteWhere(THINGS, A, Compare("number", "ge", 2))])
    assert [row["id"] for row in storage.find(THINGS, EVERY_TENANT, Query())] == ["a0", "a1", "b0", "b1", "b2", "b3", "b4"]
    storage.commit([DeleteWhere(THINGS, A, eq(name="none"))])
    storage.commit([DeleteWhere(THINGS, EVERY_TENANT, Compare("number", "lt", 4))])
    assert [row["id"] for row in storage.find(THINGS, EVERY_TENANT, Query())] == ["b4"]


def test_writes_apply_in_order_and_see_one_another(storage: Storage) -> None:
    results = storage.commit(
        [
            Insert(THINGS, thing("k")),
            Update(THINGS, A, "k", {"number": 2}, expected_version=1),
            Require(THINGS, A, "k", Compare("number", "eq", 2)),
            Insert(THINGS, thing("l")),
            Delete(THINGS, A, "k", expected_version=2),
            Insert(THINGS, thing("k", number=3)),
            DeleteWhere(THINGS, A, Compare("id", "eq", "l")),
        ]
    )
    assert results == [
        thing("k"),
        thing("k", number=2, version=2),
        thing("k", number=2, version=2),
        thing("l"),
        None,
        thing("k", number=3),
        None,
    ]
    assert storage.find(THINGS, A, Query()) == [thing("k", number=3)]


FAILING: list[Write] = [
    Insert(THINGS, thing("old")),
    Insert(THINGS, thing("new2", name="old")),
    Update(THINGS, A, "none", {}),
    Update(THINGS, A, "old", {}, expected_version=9),
    Update(THINGS, A, "old", {"name": "other"}),
    Delete(THINGS, B, "old"),
    Delete(THINGS, A, "other", expected_version=9),
    Require(THINGS, A, "other", FAILS),
    Insert(THINGS, thing("x", number=2**63)),
]


@pytest.mark.parametrize("position", [0, 2, 5])
@pytest.mark.parametrize("failing", FAILING, ids=lambda write: f"{type(write).__name__}")
def test_one_failing_write_undoes_all(storage: Storage, failing: Write, position: int) -> None:
    before = [thing("old"), thing("other", rank=1, nickname="n")]
    storage.commit([Insert(THINGS, row) for row in before])
    writes: list[Write] = [
        Insert(THINGS, thing("new")),
        Update(THINGS, A, "old", {"number": 5, "extra": [1]}),
        Delete(THINGS, B, "none", missing_ok=True),
        Insert(EVENTS, event("e"), ignore_existing=True),
        DeleteWhere(THINGS, B, ALL),
    ]
    writes.insert(position, failing)
    with pytest.raises((AlreadyExists, NotFound, VersionConflict, InvalidInput)):
        storage.commit(writes)
    assert storage.find(THINGS, EVERY_TENANT, Query()) == before
    assert storage.count(EVENTS, EVERY_TENANT) == 0
    storage.commit([Insert(THINGS, thing("new"))])


def test_deletes_are_undone_too(storage: Storage) -> None:
    rows = [thing(f"k{i}", nickname="n", rank=i) for i in range(4)]
    storage.commit([Insert(THINGS, row) for row in rows])
    with pytest.raises(NotFound):
        storage.commit([Delete(THINGS, A, "k0"), DeleteWhere(THINGS, A, ALL), Insert(THINGS, rows[1]), Require(THINGS, A, "none")])
    assert storage.find(THINGS, A, Query()) == rows
    with pytest.raises(AlreadyExists):
        storage.commit([Insert(THINGS, thing("z", nickname="n", rank=0))])


def test_the_number_of_writes_is_bounded(storage: Storage) -> None:
    with pytest.raises(InvalidInput):
        storage.commit([])
    with pytest.raises(InvalidInput):
        storage.commit([Insert(EVENTS, event(f"{i}")) for i in range(MAX_WRITES + 1)])
    results = storage.commit([Insert(EVENTS, event(f"{i}")) for i in range(MAX_WRITES)])
    assert [row["id"] for row in results if row] == [f"{i}" for i in range(MAX_WRITES)]
    assert storage.count(EVENTS, A) == MAX_WRITES


def test_made_at_stays_when_other_columns_change(storage: Storage) -> None:
    storage.commit([Insert(THINGS, thing("k"))])
    storage.commit([Update(THINGS, EVERY_TENANT, "k", {"until": MOMENT})])
    assert storage.get(THINGS, A, "k") == thing("k", until=MOMENT, version=2)
