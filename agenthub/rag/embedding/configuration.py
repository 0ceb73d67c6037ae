"""The settings of the embedding engine, as plain values."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from agenthub.rag.embedding.weights import DIRECTORY_NAME, MODEL


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


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """Which models there are. With an endpoint it is the default; the embedded model stays available."""

    model_directory: Path = field(default_factory=default_model_directory)
    threads: int | None = None  # None: two, or one on a single processor
    endpoint: EndpointSettings | None = None
    default_model: str | None = None  # None: the endpoint's, else the embedded one

    @property
    def chosen(self) -> str:
        """The id of the default model."""
        return self.default_model or (self.endpoint.model if self.endpoint else MODEL)
