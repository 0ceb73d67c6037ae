"""What occurs often is found among much that doesn't, in bounded memory."""

from __future__ import annotations

import random

from agenthub.core.frequent import Frequent


def test_few_things_are_counted_exactly() -> None:
    frequent: Frequent[str] = Frequent(4)
    for thing in "abacab":
        frequent.note(thing)
    assert frequent.most(2) == [("a", 3), ("b", 2)]
    assert frequent.most(9) == [("a", 3), ("b", 2), ("c", 1)]


def test_the_frequent_ones_survive_a_flood_of_others() -> None:
    dice = random.Random(1)
    frequent: Frequent[int] = Frequent(16)
    for step in range(20_000):
        frequent.note(dice.randrange(4) if dice.random() < 0.5 else 1000 + step)
    most = frequent.most(4)
    assert {thing for thing, _ in most} == {0, 1, 2, 3}
    assert all(count >= 2200 for _, count in most)
    assert len(frequent.most(1000)) == 16
