"""The settings of the language model's endpoint, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

MAX_TOKENS: Final = 32_768
MAX_ANSWER_CHARACTERS: Final = 200_000


@dataclass(frozen=True, slots=True)
class LlmSettings:
    """An OpenAI-compatible endpoint for chat completions. `models` are those that may be asked, the default one first."""

    base_url: str
    models: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    wait_seconds: float = 30.0  # for the first and each further byte
    whole_seconds: float = 120.0  # for one answer with its repeats
    max_tokens: int = 1024  # of an answer, where the caller asks for nothing else
    concurrent: int = 4  # answers under way in one process
    attempts: int = 2  # nothing is repeated once a piece has arrived
    max_bytes: int = 16 << 20
    pause_failures: int = 5
    pause_seconds: float = 10.0

    def problems(self) -> list[str]:
        """Everything wrong, by variable; empty when nothing is."""
        rules = (
            (_is_address(self.base_url), "LLM_BASE_URL must be an http or https address without user, password, query or fragment"),
            (bool(self.models) and all(self.models), "LLM_MODEL must name the endpoint's model"),
            (self.wait_seconds > 0 and self.whole_seconds > 0, "the LLM endpoint's times must be positive"),
        )
        return [problem for kept, problem in rules if not kept]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.username or parts.query or parts.fragment)
