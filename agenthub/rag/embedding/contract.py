"""What turns text into vectors promises, and how a vector's origin is named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from agenthub.core.errors import InvalidInput

Vectors = NDArray[np.float32]
"""One row a text, in the order asked; every row of length one."""

Precision = Literal["int8", "float32", "provider"]
Origin = Literal["embedded", "endpoint"]
MAX_TEXT_LENGTH: Final = 1_000_000  # characters


@dataclass(frozen=True)
class ModelSignature:
    """Names everything a vector depends on beside its text: vectors of different signatures are never compared or mixed."""

    model: str
    revision: str  # of the embedded model: the SHA-256 of its file; of an endpoint: the SHA-256 of its address
    precision: Precision
    dimension: int
    max_tokens: int | None  # None: the endpoint decides
    metric: Literal["cosine"] = "cosine"
    normalized: Literal[True] = True

    @cached_property
    def text(self) -> str:
        """The one spelling, for pinning and comparing."""
        return (
            f"{self.model}@{self.revision};precision={self.precision};dimension={self.dimension};"
            f"max_tokens={self.max_tokens or 'provider'};metric={self.metric};normalized=true"
        )

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Embedder(Protocol):
    """One model. Safe to share between threads; loads or connects on first use, never when it is made."""

    @property
    def model(self) -> str:
        """The id callers choose it by."""
        ...

    @property
    def signature(self) -> ModelSignature:
        """What its vectors depend on.

        Raises: ProviderFailure when an endpoint has to be asked for its dimension and does not answer, or the embedded
        model is not installed.
        """
        ...

    def embed(self, texts: Sequence[str], *, background: bool = False) -> Vectors:
        """The vectors of the texts, float32 [len(texts), dimension], each of length one. A vector depends on its text alone.

        `background`: somebody waits for searches rather than for this, so it takes what processor time they leave.

        Raises: InvalidInput (field `texts[i]`) when a text is blank or too long; ProviderFailure when the model can't be
        loaded, or the endpoint fails, times out or answers nonsense. After a failure no vector is returned.
        """
        ...

    def close(self) -> None:
        """Give threads and connections back. The embedder may be used again afterwards."""
        ...


class VectorCache(Protocol):
    """What the embedding cache needs from a cache: lost or damaged entries are misses, and it never raises."""

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The entries present."""
        ...

    def set_many(self, items: Mapping[str, bytes], ttl_seconds: float) -> None:
        """Keep the entries for at most this long, if it can."""
        ...


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as listed to callers, known without loading or asking it."""

    model: str
    origin: Origin
    default: bool
    dimension: int | None  # None: learnt from the endpoint's first answer
    max_tokens: int | None


def check_texts(texts: Sequence[str]) -> None:
    """Raises: InvalidInput (field `texts[i]`) when a text is blank or longer than 1,000,000 characters."""
    for index, text in enumerate(texts):
        if not text or text.isspace():
            raise InvalidInput("a blank text can't be embedded", field=f"texts[{index}]")
        if len(text) > MAX_TEXT_LENGTH:
            raise InvalidInput(f"a text over {MAX_TEXT_LENGTH} characters can't be embedded", field=f"texts[{index}]")
