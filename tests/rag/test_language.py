from __future__ import annotations

import pytest

from agenthub.rag.language import detect_language

TEXTS = {
    "en": "The meeting was moved to Friday because the room on the second floor is being painted this week.",
    "de": "Die Besprechung wurde auf Freitag verschoben, weil der Raum im zweiten Stock diese Woche gestrichen wird.",
    "fr": "La réunion a été déplacée à vendredi parce que la salle du deuxième étage est repeinte cette semaine.",
    "es": "La reunión se ha trasladado al viernes porque esta semana están pintando la sala del segundo piso.",
    "ru": "Собрание перенесли на пятницу, потому что на этой неделе красят комнату на втором этаже.",
    "ja": "今週は二階の部屋を塗装しているため、会議は金曜日に変更されました。参加者の皆さんは時間を確認してください。",
}


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_the_language_of_a_paragraph_is_found(language: str) -> None:
    assert detect_language([TEXTS[language]]) == language


@pytest.mark.parametrize("text", ["", "OK", "12 34 56 78 90 " * 20, "x1 " * 5, "=== --- ***" * 30])
def test_what_is_too_little_to_say_is_not_guessed(text: str) -> None:
    assert detect_language([text]) is None


def test_a_long_text_is_looked_at_in_part() -> None:
    pieces = iter([TEXTS["de"] * 50, *["unread"] * 10])
    assert detect_language(pieces) == "de"
    assert len(list(pieces)) == 10
