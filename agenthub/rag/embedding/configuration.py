"""The settings of the embedding engine, as plain values."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agenthub.rag.embedding.weights import DIRECTORY_NAME, MODEL

MAX_DIMENSION: Final = 16_384


def default_model_directory() -> Path:
    """Where `python -m agenthub.rag.embedding.build` puts the embedded model: inside the Python environment."""
    return Path(sys.prefix) / "share" / "agenthub" / "models" / DIRECTORY_NAME


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """An OpenAI-compatible embedding endpoint."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    dimension: int | None = None  # None: learnt from its first answer
    revision: str | None = None  # names the model's version at this address; None: the address does
    send_dimension: bool = False  # ask the endpoint for vectors of `dimension`, which only some models can
    timeout_seconds: float = 30.0  # for one request
    deadline_seconds: float = 120.0  # for one batch with its repeats
    attempts: int = 4
    batch_texts: int = 64
    batch_bytes: int = 200_000
    pause_failures: int = 5  # batches failed in a row after which the endpoint is left alone
    pause_seconds: float = 10.0

    def problems(self) -> list[str]:
        """Everything wrong, by variable; empty when nothing is."""
        rules = (
            (_is_address(self.base_url), "EMBEDDING_BASE_URL must be an http or https address without user, password, query or fragment"),
            (bool(self.model.strip()), "EMBEDDING_MODEL must name the endpoint's model"),
            (self.dimension is None or 0 < self.dimension <= MAX_DIMENSION, f"EMBEDDING_DIMENSION must be 1 to {MAX_DIMENSION}"),
            (self.timeout_seconds > 0 and self.deadline_seconds > 0, "the embedding endpoint's times must be positive"),
            (min(self.attempts, self.batch_texts, self.batch_bytes) > 0, "the embedding endpoint's attempts and batches must be positive"),
        )
        return [problem for kept, problem in rules if not kept]


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """Which models there are. With an endpoint it is the default; the embedded model stays available."""

    model_directory: Path = field(default_factory=default_model_directory)
    threads: int | None = None  # None: two, or one on a single processor
    endpoint: EndpointSettings | None = None
    default_model: str | None = None  # None: the endpoint's, else the embedded one
    more_models: tuple[str, ...] = ()  # of the endpoint, beside its own

    @property
    def chosen(self) -> str:
        """The id of the default model."""
        return self.default_model or (self.endpoint.model if self.endpoint else MODEL)

    @property
    def endpoints(self) -> tuple[EndpointSettings, ...]:
        """One for each of the endpoint's models. The configured dimension is that of its own."""
        if self.endpoint is None:
            return ()
        others = (model for model in self.more_models if model != self.endpoint.model)
        return (self.endpoint, *(replace(self.endpoint, model=model, dimension=None, send_dimension=False) for model in others))

    def problems(self) -> list[str]:
        """Everything wrong, by variable; empty when nothing is."""
        problems = self.endpoint.problems() if self.endpoint else []
        if self.chosen not in (MODEL, *(endpoint.model for endpoint in self.endpoints)):
            problems.append(
                f"EMBEDDING_MODEL {self.chosen!r} is not a model of this server; without EMBEDDING_BASE_URL there is only {MODEL}"
            )
        if self.threads is not None and self.threads < 1:
            problems.append("the number of embedding threads must be at least 1")
        return problems


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.username or parts.query or parts.fragment)
