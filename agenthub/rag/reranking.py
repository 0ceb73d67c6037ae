"""The port to a model that orders passages by a question anew. Nothing behind it unless an endpoint is configured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Safe to share between threads."""

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """A number for each text, in order: the higher, the better it answers.

        Raises: ProviderFailure.
        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
