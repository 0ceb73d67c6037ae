"""Opening the embedding models of a process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from agenthub.core.errors import SettingsError
from agenthub.core.observe import Observer
from agenthub.rag.embedding.cached import CachedEmbedder, CacheTally
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.embedding.configuration import EmbeddingSettings, EndpointSettings
from agenthub.rag.embedding.contract import Embedder, ModelCard, Origin, VectorCache
from agenthub.rag.embedding.weights import DIMENSION, MAX_TOKENS, MODEL

# Imported when opened: onnxruntime and the client are large, and a process may need neither or only one of them.
_LOADERS: Final[dict[Origin, str]] = {
    "embedded": "agenthub.rag.embedding.local:LocalEmbedder",
    "endpoint": "agenthub.rag.embedding.remote:RemoteEmbedder",
}


def open_embedders(settings: EmbeddingSettings, *, cache: VectorCache | None = None, observer: Observer | None = None) -> EmbedderCatalog:
    """The embedded model and, where one is configured, the endpoint's, both before `cache`. Loads and asks nothing yet.

    Raises: SettingsError naming the variables when the endpoint's address or a number is wrong, its model has the embedded
    one's id, or the default model is none of them.
    """
    _check(settings)
    tally = CacheTally(observer)
    embedders: dict[str, Embedder] = {MODEL: _load("embedded")(settings.model_directory, threads=settings.threads)}
    cards = {MODEL: ModelCard(MODEL, "embedded", settings.chosen == MODEL, DIMENSION, MAX_TOKENS)}
    if settings.endpoint is not None:
        model = settings.endpoint.model
        embedders[model] = _load("endpoint")(settings.endpoint)
        cards[model] = ModelCard(model, "endpoint", settings.chosen == model, settings.endpoint.dimension, None)
    if cache is not None:
        embedders = {model: CachedEmbedder(embedder, cache, tally) for model, embedder in embedders.items()}
    return EmbedderCatalog(embedders, cards, settings.chosen, tally)


def _load(origin: Origin) -> Callable[..., Any]:
    module, _, name = _LOADERS[origin].partition(":")
    loaded: Callable[..., Any] = getattr(import_module(module), name)
    return loaded


def _check(settings: EmbeddingSettings) -> None:
    problems = _endpoint_problems(settings.endpoint) if settings.endpoint else []
    known = [MODEL, *([settings.endpoint.model] if settings.endpoint else [])]
    if settings.chosen not in known:
        problems.append(f"EMBEDDING_MODEL {settings.chosen!r} needs EMBEDDING_BASE_URL: without one there is only {MODEL}")
    if settings.threads is not None and settings.threads < 1:
        problems.append("the number of embedding threads must be at least 1")
    if problems:
        raise SettingsError(problems)


def _endpoint_problems(endpoint: EndpointSettings) -> list[str]:
    address = urlsplit(endpoint.base_url)
    rules = (
        (address.scheme in ("http", "https") and bool(address.hostname), "EMBEDDING_BASE_URL must be an http or https address"),
        (address.username is None, "EMBEDDING_BASE_URL must not hold a user or password; use EMBEDDING_API_KEY"),
        (bool(endpoint.model.strip()), "EMBEDDING_MODEL must name the endpoint's model"),
        (endpoint.model != MODEL, f"EMBEDDING_MODEL {MODEL!r} is the embedded model's id; the endpoint needs another"),
        (endpoint.dimension is None or 0 < endpoint.dimension <= 16_384, "EMBEDDING_DIMENSION must be 1 to 16384"),
        (endpoint.timeout_seconds > 0 and endpoint.deadline_seconds > 0, "the endpoint's times must be positive"),
        (endpoint.attempts > 0 and endpoint.batch_texts > 0 and endpoint.batch_bytes > 0, "attempts and batch sizes must be positive"),
    )
    return [problem for kept, problem in rules if not kept]
