"""What a search box's text asks for: phrases, beginnings, exclusions, and everything that only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.rag.analysis import Analyzer
from agenthub.rag.query_text import MAX_PHRASES, MAX_PREFIXES, Asked, QueryText
from tests.rag.samples import ENGLISH


def asked(text: str, language: str = "english") -> Asked:
    return Asked.of(QueryText.of(text), Analyzer(language))


@pytest.mark.parametrize(
    ("text", "phrases", "prefixes", "excluded"),
    [
        ('the "Bank of England" today', ("Bank of England",), (), ()),
        ("“Bank of England” „Haus am See“ «prix unique»", ("Bank of England", "Haus am See", "prix unique"), (), ()),
        ('我想"精确"搜索', ("精确",), (), ()),
        ('jaguar -"sports car" run*', (), ("run",), ("sports car",)),
        ("run*, walk* (swim*) fly*.", (), ("run", "walk", "swim", "fly"), ()),
        ("e-mail* naïv* кни*", (), ("mail", "naïv", "кни"), ()),
        ('"run*"', ("run*",), (), ()),
        ('say:"open sesame"', ("open sesame",), (), ()),
    ],
)
def test_marks_are_read(text: str, phrases: tuple[str, ...], prefixes: tuple[str, ...], excluded: tuple[str, ...]) -> None:
    query = QueryText.of(text)
    assert (query.phrases, query.prefixes, query.excluded) == (phrases, prefixes, excluded)


@pytest.mark.parametrize(
    "text",
    [
        "what is the wing",
        'a 27" screen and a 24" one',
        'one "unbalanced quotation',
        "tar -xzf archive, git commit -m, sign-in -5 degrees",
        "*important* **bold** a*b 2*3 x* *",
        "* first\n* second",
        "the company's O'Neill",
        "",
        '"',
    ],
)
def test_what_only_looks_like_a_mark_is_words(text: str) -> None:
    assert QueryText.of(text) == QueryText.verbatim(text)
    assert asked(text) == Asked(tuple(ENGLISH.query_terms(text)))
    assert not asked(text).restricts


def test_nothing_between_quotation_marks_asks_for_nothing() -> None:
    assert asked('river "" "!?" -"" -"…"') == Asked(("river",))


def test_a_phrase_keeps_stop_words_in_it_and_drops_others_beside_it() -> None:
    found = asked('what is the "bank of England"')
    assert found.terms == ("bank", "england")
    assert found.phrases == ((("bank", 0), ("of", 1), ("england", 2)),)
    assert asked('"to be or not to be" Hamlet').terms == ("hamlet", "to", "be", "or", "not", "to", "be")


def test_a_phrase_of_an_unspaced_script_is_pairs_in_their_places() -> None:
    assert asked('"新しいiPhone手"').phrases == ((("iphon", 3), ("新し", 0), ("しい", 1), ("手", 4)),)


def test_too_many_marks_are_words() -> None:
    query = QueryText.of(
        " ".join(f'"word{n}"' for n in range(MAX_PHRASES + 3)) + " " + " ".join(f"be{n}*" for n in range(MAX_PREFIXES + 2))
    )
    assert (len(query.phrases), len(query.prefixes)) == (MAX_PHRASES, MAX_PREFIXES)
    assert {"word16", "word18", "be8", "be9"} <= set(ENGLISH.query_terms(query.plain))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"bank holiday" pay* -"school holiday"', '"bank holiday" pay  '),
        ('-"nothing else"', '-"nothing else"'),
        ("plain words", "plain words"),
    ],
)
def test_what_is_left_out_is_not_meant(text: str, meant: str) -> None:
    assert QueryText.of(text).meant == meant


def test_a_mark_that_compatibility_takes_apart_is_several_words() -> None:
    found = asked("x½y*")
    assert found.prefixes == ("2y",)
    assert found.terms == ("x1",)


MARKED = st.lists(st.sampled_from(['"', "*", "-", " ", "run", "the", "学校", "é", "“", "a", "1", "\n", "½", "ﬁ"]), max_size=30).map("".join)


@given(st.one_of(st.text(max_size=80), MARKED))
def test_no_text_is_wrong(text: str) -> None:
    query = QueryText.of(text)
    found = Asked.of(query, ENGLISH)
    parts = (query.plain, *query.phrases, *query.prefixes)
    assert set(found.terms) <= {term for part in parts for term in ENGLISH.terms(part)}
    assert query.meant.strip() or not text.strip()
    if query == QueryText.verbatim(text):
        assert found == Asked(tuple(ENGLISH.query_terms(text)))


def test_a_long_text_of_marks_is_read_at_once() -> None:
    for text in ('"' * 8000, '-"' * 4000, "*a" * 4000, 'a"' * 4000, "ab*" * 2666, '"a ' * 2666):
        assert len(QueryText.of(text).phrases) <= MAX_PHRASES
