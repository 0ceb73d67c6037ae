"""The analyzer gives the same terms for what a reader takes for the same words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.core.errors import InvalidInput
from agenthub.rag.analysis import MAX_TERM_LENGTH, SIMPLE, Analyzer, languages


@pytest.fixture(scope="module")
def english() -> Analyzer:
    return Analyzer("english")


def test_words_are_folded_and_stemmed_in_order(english: Analyzer) -> None:
    assert english.terms("Running Engines, the engine RUNS") == ["run", "engin", "the", "engin", "run"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "cafe"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("naı\u0308ve", "naive"),
        ("Straße", "STRASSE"),
        ("Łódź", "lodz"),
        ("in\u00advisible", "invisible"),
        ("the company’s", "the company's"),
        ("snake_case-name", "snake case name"),
        ("ﬁle", "file"),
    ],
)
def test_spellings_of_one_word_meet(english: Analyzer, one: str, other: str) -> None:
    assert english.terms(one) == english.terms(other) != []


def test_stop_words_are_indexed_but_not_asked_for(english: Analyzer) -> None:
    assert "the" in english.terms("the wing")
    assert english.query_terms("what is the wing") == ["wing"]


def test_a_question_of_stop_words_only_keeps_them(english: Analyzer) -> None:
    assert english.query_terms("To be or not to be") == ["to", "be", "or", "not", "to", "be"]


def test_contractions_leave_nothing_odd_in_a_question(english: Analyzer) -> None:
    assert english.query_terms("Don't the panther's claws hurt?") == ["panther", "claw", "hurt"]


@pytest.mark.parametrize(
    ("document", "question"),
    [
        ("我们在北京大学学习", "北京"),
        ("我们在北京大学学习", "学"),
        ("東京タワーは高い", "タワー"),
        ("ﾀﾜｰが見える", "タワー"),
        ("한국어 검색은 어렵다", "검색"),
        ("ภาษาไทยไม่มีช่องว่าง", "ไทย"),
    ],
)
def test_scripts_without_spaces_are_found_by_a_part(english: Analyzer, document: str, question: str) -> None:
    asked = english.query_terms(question)
    assert asked
    assert set(asked) <= set(english.terms(document))


def test_pairs_are_asked_for_and_not_their_characters(english: Analyzer) -> None:
    assert english.query_terms("iPhone手机壳") == ["iphon", "手机", "机壳"]


def test_words_of_another_script_get_that_scripts_stemmer(english: Analyzer) -> None:
    assert english.terms("книги") == english.terms("книга") == Analyzer("russian").terms("книгу")


def test_an_indic_word_is_not_split_at_its_vowel_signs() -> None:
    assert Analyzer(SIMPLE).terms("हिन्दी") == ["हिन्दी"]


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [("german", "Häuser", "hauser"), ("french", "continuellement", "continuelle"), ("spanish", "bibliotecas", "biblioteca")],
)
def test_each_language_stems_its_own(language: str, one: str, other: str) -> None:
    analyzer = Analyzer(language)
    assert analyzer.terms(one)[0][:5] == analyzer.terms(other)[0][:5]
    assert analyzer.terms(one) != [one]


def test_elided_articles_are_stop_words_in_french() -> None:
    assert Analyzer("french").query_terms("l'avion d’affaires") == ["avion", "affair"]


def test_simple_neither_stems_nor_drops() -> None:
    analyzer = Analyzer(SIMPLE)
    assert analyzer.terms("The Engines") == analyzer.query_terms("The Engines") == ["the", "engines"]


def test_encoded_data_is_cut(english: Analyzer) -> None:
    (term,) = english.terms("a1" * 100_000)
    assert len(term) <= MAX_TERM_LENGTH


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="klingon") as caught:
        Analyzer("klingon")
    assert caught.value.field == "language"


@pytest.mark.parametrize("language", languages())
def test_every_listed_language_works(language: str) -> None:
    analyzer = Analyzer(language)
    assert len(analyzer.terms("Wort word слово λέξη 単")) == 5
    assert analyzer.signature.startswith(f"{language}/")


@given(st.text(max_size=200))
def test_any_text_is_taken_and_a_question_finds_itself(text: str) -> None:
    analyzer = Analyzer("english")
    terms = analyzer.terms(text)
    assert all(term and len(term) <= 2 * MAX_TERM_LENGTH for term in terms)
    assert set(analyzer.query_terms(text)) <= set(terms)
    assert bool(analyzer.query_terms(text)) == bool(terms)


def test_threads_share_an_analyzer(english: Analyzer) -> None:
    words = [f"running{i} engines flying" for i in range(300)]
    alone = [english.terms(word) for word in words]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(english.terms, words)) == alone


@given(st.text(st.characters(max_codepoint=127), max_size=200))
@settings(deadline=None)
def test_plain_text_is_read_as_any_other(text: str) -> None:
    """Plain ASCII takes a shorter way; one accented word more sends the same text the long way."""
    for analyzer in (Analyzer("english"), Analyzer("simple")):
        assert analyzer.terms(text) == analyzer.terms(f"{text} é")[:-1]


def test_forgetting_known_terms_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Running rivers ran: the runner's river, naïve naïveté"
    expected = Analyzer("english").terms(text)
    monkeypatch.setattr("agenthub.rag.analysis._MAX_KNOWN_TERMS", 2)
    forgetful = Analyzer("english")
    assert [forgetful.terms(text) for _ in range(3)] == [expected] * 3
