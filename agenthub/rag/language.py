"""Which language a text is in, where its file does not say."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from py3langid.langid import MODEL_FILE, LanguageIdentifier

_SAMPLE_CHARACTERS: Final = 1_000
_FEWEST_LETTERS: Final = 40
_SURE: Final = 0.95


@cache
def _identifier() -> LanguageIdentifier:
    """The model, which comes with its package: half a second and some 60 MB, once a process."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def detect_language(texts: Iterable[str]) -> str | None:
    """The ISO 639 code of the language that these pieces of one text are in; None when they are too short or not clearly of one.

    The first 1,000 characters are looked at.
    """
    sample: list[str] = []
    length = 0
    for text in texts:
        sample.append(text[: _SAMPLE_CHARACTERS - length])
        length += len(sample[-1])
        if length >= _SAMPLE_CHARACTERS:
            break
    joined = "\n".join(sample)
    if sum(character.isalpha() for character in joined) < _FEWEST_LETTERS:
        return None
    language, probability = _identifier().classify(joined)
    return str(language) if probability >= _SURE else None
