"""What a language model promises, whoever serves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a text ended. `finish_reason` is the endpoint's word: `stop`, `length` when it was cut, …; a count it didn't tell is None."""

    model: str
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Generation(Protocol):
    """A text that is being written. Close it: that ends the provider's work too."""

    @property
    def ending(self) -> Ending | None:
        """How it ended; None before the last piece was taken."""
        ...

    def pieces(self, heartbeat_seconds: float | None = None) -> Iterator[str | None]:
        """The text as it arrives; None whenever nothing arrived for that long.

        Raises: ProviderFailure when it fails, hangs, breaks off or is nonsense; what came before is then no answer.
        """
        ...

    def close(self) -> None:
        """Stop. Safe to repeat, and from any thread."""
        ...


class LanguageModel(Protocol):
    """Models behind one endpoint. Safe to share between threads; connects on first use."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that may be asked, the default one first."""
        ...

    def begin(
        self, messages: Sequence[Message], *, model: str | None = None, max_tokens: int | None = None, temperature: float | None = None
    ) -> Generation:
        """Begin to write; returns at once.

        Raises: InvalidInput, field `model`, for one that may not be asked; RateLimited when too many are under way;
        ProviderFailure while the endpoint is left alone.
        """
        ...

    def close(self) -> None:
        """Give connections back; the object may be used again."""
        ...
