from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agenthub.core.errors import InvalidInput
from agenthub.rag.chunks import Chunk, ChunkLines, encode_chunks
from agenthub.rag.columns import Columns
from agenthub.rag.filters import MAX_DEPTH, parse_filter
from agenthub.rag.moments import moment
from agenthub.rag.selecting import selected_rows


def columns(rows: list[dict[str, Any]]) -> Columns:
    """The columns of these rows' metadata, through the file format and back."""
    chunks = [Chunk(f"c{row}", f"doc{row % 2}", "text", metadata) for row, metadata in enumerate(rows)]
    lines = ChunkLines(np.frombuffer(encode_chunks(chunks), dtype=np.uint8), len(chunks))
    made = Columns.of(lines.chunks())
    return Columns.decode(np.frombuffer(made.encode(), dtype=np.uint8), len(rows))


def select(tree: Any, rows: list[dict[str, Any]]) -> list[int]:
    return np.flatnonzero(selected_rows(parse_filter(tree), columns(rows))).tolist()


def leaf(op: str, value: Any, field: str = "f") -> dict[str, Any]:
    return {"field": field, "op": op, "value": value}


ROWS: list[dict[str, Any]] = [
    {"f": "b"},
    {"f": 1},
    {"f": 1.5},
    {"f": True},
    {"f": ["b", 1, True, 2.5]},
    {},
    {"f": None},
    {"f": "abc"},
    {"f": []},
    {"f": 2**62 + 1},
    {"f": {"g": "b"}},
    {"f": "2024-02-29"},
]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (leaf("eq", "b"), [0]),
        (leaf("eq", 1), [1]),
        (leaf("eq", 1.0), [1]),
        (leaf("eq", True), [3]),
        (leaf("eq", 2**62 + 1), [9]),
        (leaf("eq", 2**62), []),
        (leaf("ne", "b"), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (leaf("in", ["b", 1.5, True]), [0, 2, 3]),
        (leaf("in", []), []),
        (leaf("nin", ["b", 1.5, True]), [1, 4, 5, 6, 7, 8, 9, 10, 11]),
        (leaf("nin", []), list(range(12))),
        (leaf("gt", 1), [2, 9]),
        (leaf("gte", 1), [1, 2, 9]),
        (leaf("lt", 1.5), [1]),
        (leaf("lte", 1.5), [1, 2]),
        (leaf("gt", 2**62), [9]),
        (leaf("gt", 1e300), []),
        (leaf("lt", 1e300), [1, 2, 9]),
        (leaf("gt", "abc"), [0]),
        (leaf("gte", "abc"), [0, 7]),
        (leaf("lt", "b"), [7, 11]),
        (leaf("lte", "b"), [0, 7, 11]),
        (leaf("gte", "2024-02-28T23:00:00-01:00"), [11]),
        (leaf("gt", "2024-02-29"), []),
        (leaf("lt", "2024-03-01"), [11]),
        (leaf("exists", True), [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]),
        (leaf("exists", False), [5, 6]),
        ({"field": "f", "op": "exists"}, [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]),
        (leaf("contains", "b"), [0, 4, 7]),
        (leaf("contains", "B"), []),
        (leaf("contains", 1), [4]),
        (leaf("contains", True), [4]),
        (leaf("contains", 2.5), [4]),
        (leaf("contains", ""), [0, 7, 11]),
        (leaf("eq", "b", "f.g"), [10]),
        (leaf("eq", "doc1", "document_id"), [1, 3, 5, 7, 9, 11]),
        (leaf("eq", "x", "unknown"), []),
        (leaf("ne", "x", "unknown"), list(range(12))),
        ({"and": []}, list(range(12))),
        ({"or": []}, []),
        ({"not": leaf("gt", 1)}, [0, 1, 3, 4, 5, 6, 7, 8, 10, 11]),
        ({"or": [leaf("eq", "b"), {"and": [leaf("gte", 1), leaf("lt", 2)]}]}, [0, 1, 2]),
    ],
)
def test_what_a_filter_selects(tree: Any, expected: list[int]) -> None:
    assert select(tree, ROWS) == expected


def test_the_metadata_may_have_a_document_id_of_its_own() -> None:
    rows: list[dict[str, Any]] = [{"document_id": "mine"}, {"document_id": None}, {}]
    assert select(leaf("eq", "mine", "document_id"), rows) == [0]
    assert select(leaf("eq", "doc0", "document_id"), rows) == [2]
    assert select(leaf("eq", "doc1", "document_id"), rows) == [1]


def test_a_part_of_a_text_does_not_reach_into_the_next() -> None:
    rows: list[dict[str, Any]] = [{"f": "ab"}, {"f": "ba"}, {"f": "ab"}, {"f": "aab"}, {"f": "größe"}]
    assert select(leaf("contains", "bb"), rows) == []
    assert select(leaf("contains", "ab"), rows) == [0, 2, 3]
    assert select(leaf("contains", "aab"), rows) == [3]
    assert select(leaf("contains", "öß"), rows) == [4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 10**6),
        ("1970-01-01t01:00:00.000001+01:00", 1),
        ("1970-01-01 00:00:00", 0),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("2023-02-29", None),
        ("2024-13-01", None),
        ("2024-01-01T25:00:00Z", None),
        ("20240101", None),
        ("2024-W01-1", None),
        ("2024-01-01T00:00", None),
        (" 1970-01-01", None),
        ("1970-01-01\n", None),
        ("٢٠٢٤-01-01", None),
        ("", None),
    ],
)
def test_which_texts_are_moments(text: str, expected: int | None) -> None:
    assert moment(text) == expected


def deep(levels: int) -> Any:
    tree: Any = leaf("eq", 1)
    for _ in range(levels - 1):
        tree = {"not": tree}
    return tree


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        (None, "filter"),
        ([], "filter"),
        ({}, "filter"),
        ("x", "filter"),
        ({"and": [], "or": []}, "filter"),
        ({"xor": []}, "filter"),
        ({"and": {}}, "filter.and"),
        ({"and": [leaf("eq", 1), 3]}, "filter.and[1]"),
        ({"or": [{"not": leaf("like", 1)}]}, "filter.or[0].not.op"),
        (leaf("eq", None), "filter.value"),
        (leaf("eq", [1]), "filter.value"),
        (leaf("eq", {}), "filter.value"),
        (leaf("eq", float("nan")), "filter.value"),
        (leaf("eq", "x" * 4097), "filter.value"),
        (leaf("gt", True), "filter.value"),
        (leaf("exists", "yes"), "filter.value"),
        (leaf("in", "abc"), "filter.value"),
        (leaf("in", [1, None]), "filter.value[1]"),
        (leaf("in", [0] * 1001), "filter.value"),
        ({"field": "f", "op": "eq"}, "filter.value"),
        ({"field": 1, "op": "eq", "value": 1}, "filter.field"),
        ({"field": "", "op": "eq", "value": 1}, "filter.field"),
        ({"field": "x" * 257, "op": "eq", "value": 1}, "filter.field"),
        ({"field": "f", "op": ["eq"], "value": 1}, "filter.op"),
        ({"op": "eq", "value": 1}, "filter.field"),
        (leaf("eq", 1) | {"extra": 1}, "filter.extra"),
        (deep(9), "filter" + ".not" * 8),
        ({"and": [leaf("eq", 1)] * 100}, "filter.and[99]"),
    ],
)
def test_mistakes_are_named_by_their_path(tree: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_filter(tree)
    assert refused.value.field == field


def test_the_largest_filters_are_accepted() -> None:
    parse_filter(deep(8))
    parse_filter({"and": [leaf("in", [0] * 1000)] * 99})


scalars = st.one_of(
    st.sampled_from(["a", "ab", "b", "", "ü", "2024-01-01", "2024-01-01T12:00:00Z", "2024-01-01T12:00:00+05:00"]),
    st.integers(-3, 3),
    st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0, 1e18, float(2**53)]),
    st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63)]),
    st.booleans(),
)
values = st.one_of(scalars, st.none(), st.lists(st.one_of(scalars, st.none()), max_size=3), st.just({"x": 1}))
metadata = st.dictionaries(st.sampled_from(["f", "g", "h.i"]), values, max_size=3)
fields = st.sampled_from(["f", "g", "h.i", "f.x"])
leaves = st.one_of(
    st.builds(leaf, st.sampled_from(["eq", "ne", "contains"]), scalars, fields),
    st.builds(leaf, st.sampled_from(["in", "nin"]), st.lists(scalars, max_size=4), fields),
    st.builds(leaf, st.sampled_from(["gt", "gte", "lt", "lte"]), scalars.filter(lambda v: not isinstance(v, bool)), fields),
    st.builds(leaf, st.just("exists"), st.booleans(), fields),
)
trees = st.recursive(
    leaves,
    lambda below: st.one_of(
        st.builds(lambda items: {"and": items}, st.lists(below, max_size=3)),
        st.builds(lambda items: {"or": items}, st.lists(below, max_size=3)),
        st.builds(lambda item: {"not": item}, below),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(tree=trees, rows=st.lists(metadata, min_size=1, max_size=8))
def test_filters_mean_what_their_definition_says(tree: Any, rows: list[dict[str, Any]]) -> None:
    assume(depth_of(tree) <= MAX_DEPTH)
    assert select(tree, rows) == [row for row, item in enumerate(rows) if plain(tree, item)]


def depth_of(tree: Any) -> int:
    below = [tree["not"]] if "not" in tree else tree.get("and", tree.get("or", []))
    return 1 + max((depth_of(item) for item in below), default=0)


def plain(tree: Any, item: dict[str, Any]) -> bool:
    """The definition, a row at a time."""
    if "and" in tree:
        return all(plain(below, item) for below in tree["and"])
    if "or" in tree:
        return any(plain(below, item) for below in tree["or"])
    if "not" in tree:
        return not plain(tree["not"], item)
    return _plain_leaf(tree["op"], tree["value"], _value(tree["field"], item))


def _value(field: str, item: dict[str, Any]) -> Any:
    if field == "f.x":
        return item["f"]["x"] if isinstance(item.get("f"), dict) else None
    return item.get(field)


def _plain_leaf(op: str, asked: Any, value: Any) -> bool:
    match op:
        case "exists":
            return bool((value is not None) == asked)
        case "ne" | "nin":
            return not _plain_leaf({"ne": "eq", "nin": "in"}[op], asked, value)
        case "eq":
            return _same(value, asked)
        case "in":
            return any(_same(value, one) for one in asked)
        case "contains":
            return _contains(value, asked)
    return _in_order(op, asked, value)


def _contains(value: Any, asked: Any) -> bool:
    if isinstance(value, list):
        return any(_same(one, asked) for one in value)
    return isinstance(value, str) and isinstance(asked, str) and asked in value


def _same(value: Any, asked: Any) -> bool:
    return _sort(value) == _sort(asked) != "none" and bool(value == asked)


def _sort(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "none"


def _in_order(op: str, asked: Any, value: Any) -> bool:
    if _sort(value) != _sort(asked) or isinstance(value, bool):
        return False
    if isinstance(asked, str) and moment(asked) is not None:
        value, asked = moment(value), moment(asked)
        if value is None:
            return False
    return bool({"gt": value > asked, "gte": value >= asked, "lt": value < asked, "lte": value <= asked}[op])
