"""Phrases, beginnings and exclusions against reading every text, over several segments with deletes and filters."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenthub.core.errors import InvalidInput
from agenthub.rag.analysis import Analyzer, fold
from agenthub.rag.filters import parse_filter
from agenthub.rag.keyword_ranking import KeywordPart, KeywordRanking
from agenthub.rag.keywords import KeywordIndex
from agenthub.rag.matching import wanted_rows
from agenthub.rag.query_text import Asked, QueryText
from agenthub.rag.searcher import Mode, SearchRequest
from agenthub.rag.segment import Chunk
from tests.rag.samples import ENGLISH, Base, cosines, new_engine, vectors

TEXT_WORDS = [
    "river",
    "rivers",
    "run",
    "running",
    "runner",
    "the",
    "of",
    "connection",
    "connected",
    "résumé",
    "resume",
    "東京",
    "東京都",
    "都",
]
texts = st.lists(st.sampled_from(TEXT_WORDS), max_size=9).map(" ".join)
phrases = st.lists(st.sampled_from(TEXT_WORDS), min_size=1, max_size=4).map(" ".join)
prefixes = st.sampled_from(["ru", "run", "runn", "connecti", "con", "rés", "resum", "th", "zz", "rivers"])


def units(text: str, analyzer: Analyzer = ENGLISH) -> list[tuple[str, bool]]:
    """A text one unit after another: a word's term, or a character and whether it goes on from the one before."""
    found: list[tuple[str, bool]] = []
    for item in text.split():
        if item[0] in "東京都":
            found += [(character, at > 0) for at, character in enumerate(item)]
        else:
            found += [(term, False) for term in analyzer.terms(item)]
    return found


def has_phrase(text: str, phrase: str) -> bool:
    have, want = units(text), units(phrase)
    starts = range(len(have) - len(want) + 1)
    return any(all(h == w and (g or not v) for (h, g), (w, v) in zip(have[at:], want, strict=False)) for at in starts)


def words_beginning(text: str, prefix: str) -> int:
    return sum(fold(word).startswith(fold(prefix)) for word in ENGLISH.read(text).words)


def test_the_plain_way_knows_a_phrase() -> None:
    assert has_phrase("the rivers run", "river running")
    assert has_phrase("a 東京都 b", "京都")
    assert not has_phrase("東京 都", "京都")
    assert has_phrase("東京 都", "京 都")
    assert not has_phrase("the river runs", "the run")


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(texts, min_size=1, max_size=8), wanted=st.lists(phrases, max_size=2), excluded=st.lists(phrases, max_size=2))
def test_rows_with_a_phrase_are_those_that_read_so(rows: list[str], wanted: list[str], excluded: list[str]) -> None:
    query = QueryText("", "", tuple(wanted), (), tuple(excluded))
    asked = Asked.of(query, ENGLISH)
    index = KeywordIndex.of(rows, ENGLISH)
    expected = [all(has_phrase(row, one) for one in wanted) and not any(has_phrase(row, one) for one in excluded) for row in rows]
    assert wanted_rows(index, asked.phrases, asked.excluded).tolist() == expected
    again = KeywordIndex.decode(np.frombuffer(index.encode(), dtype=np.uint8), len(rows))
    assert wanted_rows(again, asked.phrases, asked.excluded).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(texts, min_size=1, max_size=10),
    asked=st.lists(prefixes, min_size=1, max_size=2, unique=True),
    cuts=st.sets(st.integers(1, 9), max_size=3),
    hidden=st.sets(st.integers(0, 9), max_size=4),
)
def test_a_prefix_scores_as_one_word_would(rows: list[str], asked: list[str], cuts: set[int], hidden: set[int]) -> None:
    """However the rows are spread over segments, and whatever words only deleted rows have."""
    scores = _ranking(rows, cuts, hidden).scores((), [fold(prefix) for prefix in asked])
    shown = [row for row in range(len(rows)) if row not in hidden]
    expected = _scores([rows[row] for row in shown], asked)
    assert scores[shown].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def _ranking(rows: list[str], cuts: set[int], hidden: set[int]) -> KeywordRanking:
    parts = []
    ends = [*sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    for start, end in zip([0, *ends], ends, strict=False):
        index = KeywordIndex.of(rows[start:end], ENGLISH)
        visible = np.array([row not in hidden for row in range(start, end)], dtype=np.bool_)
        parts.append(KeywordPart(index, lambda one=index: one, None if visible.all() else visible, start))  # type: ignore[misc]
    return KeywordRanking(parts)


def _scores(shown: list[str], asked: list[str]) -> list[float]:
    lengths = [len(ENGLISH.terms(text)) for text in shown]
    mean = sum(lengths) / max(len(lengths), 1)
    totals = [0.0] * len(shown)
    for prefix in asked:
        counts = [words_beginning(text, prefix) for text in shown]
        frequency = sum(count > 0 for count in counts)
        weight = math.log(1 + (len(shown) - frequency + 0.5) / (frequency + 0.5))
        for row, count in enumerate(counts):
            if count:
                totals[row] += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * lengths[row] / mean))
    return totals


@pytest.mark.parametrize(
    ("language", "prefix", "found", "missed"),
    [
        ("english", "connecti", "connections", "connected"),
        ("english", "happine", "Happiness", "happily"),
        ("english", "cafe", "Cafés", "cab"),
        ("german", "häus", "Häuser", "Haut"),
        ("german", "straß", "Strassen", "Strand"),
        ("french", "continuelle", "continuellement", "continuer"),
        ("spanish", "bibliote", "bibliotecas", "biblia"),
        ("russian", "книг", "книгами", "кнут"),
        ("arabic", "مكتب", "مكتبة", "كتاب"),
        ("finnish", "taloss", "talossa", "talo"),
        ("turkish", "kitapl", "kitaplar", "kitap"),
        ("hindi", "किता", "किताबें", "काम"),
        ("simple", "runn", "Running", "run"),
    ],
)
def test_a_prefix_is_one_of_words_as_they_are_written(language: str, prefix: str, found: str, missed: str) -> None:
    """Not of stems, which end earlier and differently."""
    analyzer = Analyzer(language)
    asked = Asked.of(QueryText.of(f"{prefix}*"), analyzer)
    index = KeywordIndex.of([f"x {missed}", f"{found} y", missed, f"{found}, {found}; {missed}"], analyzer)
    scores = KeywordRanking([KeywordPart(index, lambda: index, None, 0)]).scores(asked.terms, asked.prefixes)
    assert [score > 0 for score in scores] == [False, True, False, True]


def test_two_words_of_one_spelling_are_both_found() -> None:
    """Without their accents these are one word, but their stems differ."""
    index = KeywordIndex.of(["résumé", "resume", "résumés", "rest"], Analyzer("french"))
    scores = KeywordRanking([KeywordPart(index, lambda: index, None, 0)]).scores((), ("resume",))
    assert [score > 0 for score in scores] == [True, True, True, False]


def test_more_than_an_index_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthub.rag.keywords._KEYS", 8)
    with pytest.raises(InvalidInput, match="too many"):
        KeywordIndex.of(["a b c d", "e f g h"], ENGLISH)


# --- whole searches ---

FILTERS: list[tuple[dict[str, Any] | None, Callable[[Chunk], bool]]] = [
    (None, lambda chunk: True),
    ({"field": "n", "op": "lt", "value": 3}, lambda chunk: chunk.metadata["n"] < 3),
]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    parts=st.lists(st.lists(texts, min_size=1, max_size=6), min_size=1, max_size=4),
    gone=st.sets(st.integers(0, 23), max_size=6),
    phrase=phrases,
    excluded=st.one_of(st.none(), phrases),
    mode=st.sampled_from(["keyword", "hybrid", "semantic"]),
    chosen=st.integers(0, 1),
    top_k=st.sampled_from([1, 3, 100]),
)
def test_every_hit_has_the_phrase_and_there_are_as_many_as_can_be(
    root: Path, parts: list[list[str]], gone: set[int], phrase: str, excluded: str | None, mode: Mode, chosen: int, top_k: int
) -> None:
    base = _base(root, parts, gone)
    tree, matches = FILTERS[chosen]
    text = f'"{phrase}" river' + (f' -"{excluded}"' if excluded else "")
    query = vectors(1, 3)[0]
    request = SearchRequest(text, query, mode, top_k, None if tree is None else parse_filter(tree))
    hits = base.searcher().search([request, SearchRequest("run", query, mode, top_k)])[0]
    shown = [pair for pair in base.visible.values() if matches(pair[0])]
    if mode != "semantic":
        shown = [pair for pair in shown if has_phrase(pair[0].text, phrase) and not (excluded and has_phrase(pair[0].text, excluded))]
    assert len(hits) == min(top_k, len(shown))
    assert {hit.id for hit in hits} <= {chunk.id for chunk, _ in shown}
    if mode == "semantic":
        return
    verbatim = base.searcher().search([SearchRequest(text, query, mode, 100, request.filter, None, verbatim=True)])[0]
    assert {hit.id for hit in verbatim} == {chunk.id for chunk, _ in base.visible.values() if matches(chunk) and _found(chunk, text, mode)}
    similar = dict(zip((chunk.id for chunk, _ in shown), cosines([row for _, row in shown], query), strict=True))
    for hit in hits:
        assert hit.semantic_score is None or hit.semantic_score == pytest.approx(similar[hit.id], abs=1e-5)


def _found(chunk: Chunk, text: str, mode: str) -> bool:
    return mode == "hybrid" or not set(ENGLISH.query_terms(text)).isdisjoint(ENGLISH.terms(chunk.text))


def _base(root: Path, parts: list[list[str]], gone: set[int]) -> Base:
    base = Base(new_engine(root)).create()
    number = 0
    for seed, part in enumerate(parts):
        items = [Chunk(f"c{number + at}", None, text, {"n": at}) for at, text in enumerate(part)]
        number += len(part)
        base.append(items, vectors(len(items), seed))
    for one in gone & set(range(number)):
        base.delete(chunk=f"c{one}")
    return base


@pytest.mark.parametrize("text", ['"river running" the', 'run* -"the river"', 'connecti* "東京"'])
def test_merging_changes_no_answer(tmp_path: Path, text: str) -> None:
    random = np.random.default_rng(5)
    parts = [[" ".join(random.choice(TEXT_WORDS, size=9)) for _ in range(30)] for _ in range(4)]
    base = _base(tmp_path, parts, {3, 40, 41, 77})
    request = SearchRequest(text, vectors(1, 9)[0], "hybrid", 50)
    keyword = SearchRequest(text, None, "keyword", 50)
    before = base.searcher().search([request, keyword])
    chunks = [chunk for chunk, _ in base.visible.values()]
    merged = Base(new_engine(tmp_path)).create()
    merged.append(chunks, np.stack([row for _, row in base.visible.values()]))
    for hits, others in zip(before, merged.searcher().search([request, keyword]), strict=True):
        assert len(hits) >= 3
        assert [hit.id for hit in hits] == [hit.id for hit in others]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in others], rel=1e-5)
