"""Which segments are merged, and what becomes of a manifest."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.rag.engine import Tombstone
from agenthub.rag.manifest import Manifest, SegmentEntry, Span
from agenthub.rag.merging import CROWDED, MOST_SEGMENTS, Burials, Rewriting, SegmentSize, plan_merge, tier
from agenthub.rag.references import FileRef
from agenthub.rag.segment import Chunk
from tests.rag.samples import NOW, SIGNATURE


def sizes(*counts: int) -> list[SegmentSize]:
    return [SegmentSize(count, count) for count in counts]


def test_seven_of_a_tier_are_left_and_eight_are_merged() -> None:
    assert plan_merge(sizes(*[1] * 7)) == ()
    assert plan_merge(sizes(*[1] * 8)) == tuple(range(8))
    assert plan_merge(sizes(600, *[1] * 8)) == tuple(range(1, 9))


def test_a_tier_that_would_be_filled_is_merged_with_it() -> None:
    assert plan_merge(sizes(*[8] * 7, *[1] * 8)) == tuple(range(15))
    assert plan_merge(sizes(*[8] * 6, *[1] * 8)) == tuple(range(6, 14))


def test_hidden_segments_go_with_the_next_merge_and_mostly_hidden_ones_are_written_anew_when_worth_it() -> None:
    gone = SegmentSize(5, 0)
    assert plan_merge([gone, *sizes(100)]) == ()
    assert plan_merge([gone, *sizes(*[1] * 8)]) == tuple(range(9))
    assert plan_merge([gone] * 8) == tuple(range(8))
    assert plan_merge([SegmentSize(2000, 900), *sizes(1000)]) == (0,)


def test_tiers_are_powers_of_eight() -> None:
    assert [tier(count) for count in (1, 7, 8, 63, 64, 511, 512)] == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_writes_there_are_few_segments_and_a_chunk_is_rarely_written(seed: int) -> None:
    pattern = random.Random(seed)
    counts: list[int] = []
    written = Counter[str]()
    for _ in range(3000):
        size = int(pattern.choice([1, 1, 1, 4, 30, 500, 20_000, 300_000]) * pattern.uniform(0.5, 1.5)) or 1
        counts.append(size)
        written["added"] += size
        while places := plan_merge(sizes(*counts)):
            merged = sum(counts[place] for place in places)
            written["merged"] += merged
            counts = [count for place, count in enumerate(counts) if place not in places] + [merged]
        assert len(counts) <= CROWDED < MOST_SEGMENTS
    assert written["merged"] <= 12 * written["added"]


def entry(name: str, covers: int) -> SegmentEntry:
    return SegmentEntry(name, FileRef(f"segments/{name}/segment.json", 1, "0" * 64), 1, 1, covers)


def manifest(*entries: SegmentEntry, generation: int = 9) -> Manifest:
    return replace(Manifest.empty("0" * 26, SIGNATURE, "op", NOW), generation=generation, segments=entries)


def test_the_output_stands_where_its_first_input_stood_and_covers_what_was_read() -> None:
    a, b, c, out = entry("a", 2), entry("b", 3), entry("c", 4), entry("out", 0)
    applied = Rewriting((c, a), out, 7, clear=(b,)).applied(manifest(a, b, c, entry("new", 8)))
    assert applied == (replace(out, covers_generation=7), replace(b, covers_generation=7), entry("new", 8))
    assert Rewriting((a,), None, 7).applied(manifest(a, b)) == (b,)


def test_a_merge_is_dropped_when_its_inputs_are_not_what_it_read() -> None:
    a, b, out = entry("a", 2), entry("b", 3), entry("out", 0)
    assert Rewriting((a, b), out, 7).applied(manifest(a)) is None
    assert Rewriting((a,), out, 7).applied(manifest(entry("a", 5))) is None
    taken_back = replace(manifest(a, b), revoked=(Span(4, 8),))
    assert Rewriting((a, b), out, 7).applied(taken_back) is None
    assert Rewriting((a, b), out, 7, revoked=(Span(4, 8),)).applied(taken_back) is not None


def test_a_burial_hides_copies_that_cover_less() -> None:
    burials = Burials([Tombstone("document", "d", 5), Tombstone("document", "d", 3), Tombstone("chunk", "c", 7)])
    of_document, alone = Chunk("x", "d", "", {}), Chunk("c", None, "", {})
    assert burials.hide(of_document, 4)
    assert not burials.hide(of_document, 5)
    assert burials.hide(alone, 6)
    assert not burials.hide(alone, 7)
    assert not burials.hide(Chunk("y", "e", "", {}), 0)


def test_at_rest_all_that_one_segment_holds_becomes_one() -> None:
    assert plan_merge(sizes(64_000, 8_000, 8_000, 1_000)) == ()
    assert plan_merge(sizes(64_000, 8_000, 8_000, 1_000), at_rest=True) == (0, 1, 2, 3)
    assert plan_merge(sizes(64_000), at_rest=True) == ()
    assert plan_merge(sizes(64_000, 10), at_rest=True) == ()  # not for next to nothing
    assert plan_merge(sizes(200_000, 100_000, 50_000), at_rest=True) == (1, 2)


@given(st.lists(st.integers(1, 400_000), max_size=60))
def test_rest_comes_to_an_end(counts: list[int]) -> None:
    left = list(counts)
    for _ in range(len(counts) + 1):
        places = plan_merge(sizes(*left), at_rest=True)
        if not places:
            return
        left = [count for place, count in enumerate(left) if place not in places] + [sum(left[place] for place in places)]
    raise AssertionError(left)
