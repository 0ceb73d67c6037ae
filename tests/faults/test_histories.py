"""The checker of histories finds what it should, and agrees with trying every order of short histories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest

from tests.faults.histories import Event, backward_problems, chain_problems, content_problems, order_problems

HISTORY = [
    Event("w0", "add", "ok", 0, 1, 2, "a", "A"),
    Event("w1", "add", "ok", 0.5, 3, 3, "b", "B"),
    Event("w0", "add", "unknown", 2, 4, None, "c", "C"),
    Event("r", "read", "ok", 3.5, 4.5, 3),
    Event("w1", "delete", "ok", 5, 6, 5, "a"),
    Event("w2", "add", "refused", 5, 6, None, "d", "D"),
    Event("r", "read", "ok", 7, 8, 5),
]
CHANGES: list[dict[str, Any]] = [
    {"generation": 1, "kind": "create", "chunks_delta": 0, "chunk_count": 0},
    {"generation": 2, "kind": "add", "chunks_delta": 1, "chunk_count": 1},
    {"generation": 3, "kind": "add", "chunks_delta": 1, "chunk_count": 2},
    {"generation": 4, "kind": "merge", "chunks_delta": 0, "chunk_count": 2},
    {"generation": 5, "kind": "delete", "chunks_delta": -1, "chunk_count": 1},
]


def test_a_right_history_is_accepted() -> None:
    assert order_problems(HISTORY) == backward_problems(HISTORY) == chain_problems(HISTORY, CHANGES) == []
    assert content_problems(HISTORY, 5, {"b": "B"}) == content_problems(HISTORY, 5, {"b": "B", "c": "C"}) == []
    assert content_problems(HISTORY, 3, {"a": "A", "b": "B"}) == []


@pytest.mark.parametrize(
    ("generation", "content"),
    [
        (5, {}),  # lost
        (5, {"b": "B", "a": "A"}),  # back after its deletion
        (5, {"b": "B", "d": "D"}),  # refused, and still there
        (5, {"b": "B", "x": "X"}),  # a phantom
        (5, {"b": "A"}),  # another's vector
        (2, {"a": "A", "b": "B"}),  # from a later generation
    ],
)
def test_wrong_contents_are_found(generation: int, content: dict[str, str]) -> None:
    assert len(content_problems(HISTORY, generation, content)) == 1


def test_wrong_chains_are_found() -> None:
    assert chain_problems(HISTORY, CHANGES[:-1])  # an acknowledged write is not in it
    assert chain_problems(HISTORY, [*CHANGES[:3], CHANGES[4]])  # a generation is missing
    assert chain_problems(HISTORY, [*CHANGES, {"generation": 5, "kind": "add", "chunks_delta": 0, "chunk_count": 1}])
    assert chain_problems(HISTORY, [*CHANGES[:4], CHANGES[4] | {"chunk_count": 2}])
    applied_twice = [{"generation": number, "kind": "add", "chunks_delta": 1, "chunk_count": number - 4} for number in (6, 7)]
    assert chain_problems(HISTORY, [*CHANGES, *applied_twice])


def test_wrong_orders_are_found() -> None:
    stale = [*HISTORY[:-1], replace(HISTORY[-1], generation=4)]
    assert len(order_problems(stale)) == 1
    doubled = [*HISTORY, Event("w3", "add", "ok", 0, 9, 5, "e", "E")]
    assert len(order_problems(doubled)) == 1
    backward = [HISTORY[-1], replace(HISTORY[-1], began=7.5, ended=9, generation=4)]
    assert order_problems(backward) == []  # they overlap, so real time allows it
    assert len(backward_problems(backward)) == 1


def test_the_quick_check_agrees_with_trying_every_order() -> None:
    chooser = random.Random(20261125)
    verdicts = set()
    for _ in range(400):
        history = [_random_event(chooser) for _ in range(chooser.randint(2, 6))]
        verdict = order_problems(history) == []
        verdicts.add(verdict)
        assert verdict is _explained(history), history
    assert verdicts == {True, False}


def _random_event(chooser: random.Random) -> Event:
    began = chooser.randint(0, 8)
    kind = chooser.choice(("add", "read"))
    outcome = chooser.choice(("ok", "ok", "ok", "unknown"))
    return Event("p", kind, outcome, began, began + chooser.randint(1, 5) + 0.5, chooser.randint(2, 6))  # type: ignore[arg-type]


def _explained(history: Sequence[Event]) -> bool:
    """Whether some order that agrees with real time lets every answer be true; merges may make generations in between."""
    told = [event for event in history if event.outcome == "ok"]
    return any(_agrees(order) and _true(order) for order in permutations(told))


def _agrees(order: Sequence[Event]) -> bool:
    return not any(later.ended < earlier.began for earlier, later in combinations(order, 2))


def _true(order: Sequence[Event]) -> bool:
    now = 1
    for event in order:
        least = now + (event.kind != "read")
        if (event.generation or 0) < least:
            return False
        now = event.generation or 0
    return True
