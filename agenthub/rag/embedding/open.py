"""Opening the embedding models of a process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from agenthub.core.errors import SettingsError
from agenthub.core.observe import Observer
from agenthub.rag.embedding.cached import CachedEmbedder, CacheTally
from agenthub.rag.embedding.catalog import EmbedderCatalog
from agenthub.rag.embedding.configuration import EmbeddingSettings
from agenthub.rag.embedding.contract import Embedder, ModelCard, Origin, VectorCache
from agenthub.rag.embedding.weights import DIMENSION, MAX_TOKENS, MODEL

# Imported when opened: onnxruntime and the client are large, and a process may need neither or only one of them.
_LOADERS: Final[dict[Origin, str]] = {
    "embedded": "agenthub.rag.embedding.local:LocalEmbedder",
    "endpoint": "agenthub.rag.embedding.remote:RemoteEmbedder",
}


def open_embedders(settings: EmbeddingSettings, *, cache: VectorCache | None = None, observer: Observer | None = None) -> EmbedderCatalog:
    """The embedded model and, where one is configured, the endpoint's models, all before `cache`. Loads and asks nothing yet.

    An endpoint's model with the embedded one's id takes its place.

    Raises: SettingsError naming the variables when `settings.problems()` finds any.
    """
    problems = settings.problems()
    if problems:
        raise SettingsError(problems)
    tally = CacheTally(observer)
    embedders: dict[str, Embedder] = {MODEL: _load("embedded")(settings.model_directory, threads=settings.threads)}
    cards = {MODEL: ModelCard(MODEL, "embedded", settings.chosen == MODEL, DIMENSION, MAX_TOKENS)}
    for endpoint in settings.endpoints:
        model = endpoint.model
        embedders[model] = _load("endpoint")(endpoint)
        cards[model] = ModelCard(model, "endpoint", settings.chosen == model, endpoint.dimension, None)
    if cache is not None:
        embedders = {model: CachedEmbedder(embedder, cache, tally) for model, embedder in embedders.items()}
    return EmbedderCatalog(embedders, cards, settings.chosen, tally)


def _load(origin: Origin) -> Callable[..., Any]:
    module, _, name = _LOADERS[origin].partition(":")
    loaded: Callable[..., Any] = getattr(import_module(module), name)
    return loaded
