"""Citations are verified and nothing leads or loads elsewhere, in one piece and in many."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.rag.answering.citing import MAX_HELD, Purifier, cited_numbers, harmless

HOSTILE = (
    "![x](https://evil.example/?q=1)",
    "![x][ref]\n\n[ref]: https://evil.example/i.png",
    "[click](https://evil.example)",
    "[click](javascript:alert(1))",
    "[click]( https://evil.example 'title')",
    "<img src=x onerror=alert(1)>",
    "<IMG\nSRC='//evil.example'>",
    "<a href=//evil.example>here</a>",
    "<script>fetch('https://evil.example')</script>",
    "<iframe src=//evil.example",
    "<https://evil.example>",
    "see https://evil.example/path?x=1 now",
    "see www.evil.example/x now",
    "mailto:me@evil.example",
    "data:text/html;base64,AAAA",
    "[a](<https://evil.example>)",
    "[1](https://evil.example) and [2]",
    "<scr<script>ipt src=//evil.example></scr</script>ipt>",
    "<<<<<<<img>img>img>img>img>img>img src=//evil.example>",
    "!![a](b)[c](https://evil.example/i.png)",
    "[[x](y)](https://evil.example)",
)
SWALLOWING = (HOSTILE[1], HOSTILE[9])
"""The rest of their line or tag goes with them."""
LOADS = re.compile(r"https?://|www\.|mailto:|javascript:|<(img|a|script|iframe)\b|!\[|\]\(|data:text", re.IGNORECASE)


def in_pieces(text: str, shown: int, size: int) -> str:
    return "".join(piece or "" for piece in Purifier(shown).through(iter([text[i : i + size] for i in range(0, len(text), size)])))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_nothing_leads_or_loads(text: str, size: int) -> None:
    around = f"At dusk [1]. {text} And so on [2]."
    for cleaned in (harmless(around, 2), in_pieces(around, 2, size)):
        assert not LOADS.search(cleaned), cleaned
        assert "At dusk [1]." in cleaned and (cleaned.endswith("And so on [2].") or text in SWALLOWING)


def test_invented_numbers_are_gone() -> None:
    assert harmless("A [1], b [3]. C [2, 9][4] d [1;2] e [007].", 2) == "A [1], b. C [2] d [1][2] e."
    assert cited_numbers("x [2] y [1] z [2, 1]") == [2, 1]


@pytest.mark.parametrize(
    "text", ["a list[int] of 3 < 4 > 2", "array[0] = x[i]", "**bold** and `code`", "if a<b and c>d", "50 % (half)", "see [sic] there"]
)
def test_ordinary_text_stays(text: str) -> None:
    expected = text.replace("[0]", "")
    assert harmless(text, 3) == expected == in_pieces(text, 3, 2)


@given(st.text(alphabet="ab [](!)<>12/:.\nhtps", max_size=120), st.integers(1, 20))
def test_pieces_never_let_through_what_the_whole_would_not(text: str, size: int) -> None:
    cleaned = in_pieces(text, 2, size)
    assert not re.search(r"https?://\w|!\[[^\]]*\]\(", cleaned)
    assert {int(n) for n in re.findall(r"\[(\d+)\]", cleaned)} <= {1, 2}


def test_what_is_held_back_is_bounded() -> None:
    purifier = Purifier(1)
    told = sum(len(purifier.feed("[word ")) for _ in range(2000))
    assert told > 9_000
    purifier = Purifier(1)
    pieces = ("[" + "x" * MAX_HELD, "<scr", "ipt src=//evil.example> ", "y")
    told_text = "".join(purifier.feed(piece) for piece in pieces) + purifier.finish()
    assert not LOADS.search(told_text)
