"""Sentences: where they end, where they don't, and that their places are right."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.rag.answering.sentences import MAX_SENTENCE, sentences_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs 3.50 euros, e.g. at Dr. Smith's. Then more.", ["It costs 3.50 euros, e.g. at Dr. Smith's.", "Then more."]),
        ("He moved.[8] She stayed.", ["He moved.[8]", "She stayed."]),
        ('"Stop." He said so.', ['"Stop."', "He said so."]),
        ("J. R. Tolkien wrote it. So it is.", ["J. R. Tolkien wrote it.", "So it is."]),
        ("Head\n\nBody goes on\nover lines. End.", ["Head", "Body goes on\nover lines.", "End."]),
        ("Things:\n- one\n- two", ["Things:", "- one", "- two"]),
        ("灯台です。明るい。", ["灯台です。", "明るい。"]),
        ("   \n ", []),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, expected: list[str]) -> None:
    assert [sentence.text for sentence in sentences_of(text)] == expected


@given(st.text(alphabet='aB. !?\n[]1灯。"-', max_size=300) | st.text(max_size=200))
def test_nothing_is_lost_and_places_are_right(text: str) -> None:
    found = sentences_of(text)
    assert "".join("".join(sentence.text.split()) for sentence in found) == "".join(text.split())
    for sentence in found:
        assert text[sentence.start : sentence.end] == sentence.text and len(sentence.text) <= MAX_SENTENCE
    assert all(one.end <= two.start for one, two in pairwise(found))


def test_a_table_without_an_end_is_cut_between_words() -> None:
    found = sentences_of("word " * 1000)
    assert len(found) > 5 and all(sentence.text.endswith("word") for sentence in found)
